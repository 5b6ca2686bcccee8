//! A language model: how soon it answers, and what more answers at once cost.

use std::time::Instant;

use repartee_worker_shell::protocol::{Chat, ChatMessage, LlmParams, Params, Role, StreamId, ToEngine, Usage};

use crate::arguments::Arguments;
use crate::figures::{Cell, Spread, Table};
use crate::session::{LEAST, MOST_RUNS, Session};

/// Beginnings of stories: a name and what goes on. Each prompt is another pair, so that the worker finds no beginning in its cache.
const NAMES: [&str; 17] = [
    "Tom", "Lily", "Ben", "Anna", "Sam", "Mia", "Max", "Sue", "Tim", "Lucy", "Jack", "Amy", "Bob", "Emma", "Leo",
    "Ella", "Joe",
];
const BEGINNINGS: [&str; 16] = [
    "had a big red ball and went to the park to play with a friend",
    "liked to sit under the old tree and look at the birds",
    "wanted to help to make a cake for the party",
    "found a shiny stone near the river and took it home",
    "saw a small bear in the forest and was not afraid",
    "was sad because the best toy of all was lost",
    "had a blue car and liked to drive it very fast",
    "went to the sea and made a castle out of sand",
    "heard a loud noise in the night and got out of bed",
    "met an old man who had a long white beard",
    "looked out of the window and saw the first snow",
    "wanted to know where the moon goes in the morning",
    "had a little dog that did not want to sleep",
    "gave some bread to the ducks on the lake",
    "climbed up a high hill to see the whole town",
    "got a letter from a friend who lived far away",
];

#[derive(Debug, Default)]
struct Sums {
    first_token: Vec<f64>,
    tokens_per_second: Vec<f64>,
    tokens: f64,
    prompts: f64,
    read: f64,
    processor: f64,
}

struct Answer {
    stream: StreamId,
    asked: Instant,
    pieces: u32,
    usage: Option<Usage>,
}

pub(crate) fn measure(session: &mut Session, arguments: &Arguments, table: &mut Table) -> Result<Vec<String>, String> {
    let streams = table.streams.clone();
    let mut sums: Vec<Sums> = streams.iter().map(|_| Sums::default()).collect();
    let mut asked = 0;
    for _ in 0..arguments.rounds {
        for (streams, sums) in streams.iter().zip(&mut sums) {
            let began = Instant::now();
            let processor = session.processor_seconds();
            for _ in 0..MOST_RUNS {
                answer(session, *streams, arguments.tokens, &mut asked, sums)?;
                if began.elapsed() >= LEAST {
                    break;
                }
            }
            sums.processor += session.processor_seconds() - processor;
        }
    }
    let each = |cell: &dyn Fn(&Sums) -> Cell| sums.iter().map(cell).collect::<Vec<_>>();
    let first = |sums: &Sums| Spread::of(&sums.first_token).milliseconds();
    table.row("first_token_ms", "first token after the question", each(&first));
    let rate = |sums: &Sums| Spread::of(&sums.tokens_per_second).median();
    let per_second = |sums: &Sums| Cell::number(rate(sums), 0, "");
    table.row(
        "tokens_per_second",
        "tokens per second, all streams together",
        each(&per_second),
    );
    let processor = |sums: &Sums| sums.processor / sums.tokens;
    let per_token = |sums: &Sums| Cell::number(processor(sums) * 1e6, 0, " µs");
    table.row("processor_us_per_token", "processor time per token", each(&per_token));
    // Only against one stream, and per token: answers may be of different lengths.
    if let (Some(1), Some(one)) = (streams.first(), sums.first()) {
        let against_one = |cost: &dyn Fn(&Sums) -> f64| -> Vec<Cell> {
            let costs = streams.iter().zip(&sums);
            costs
                .map(|(streams, sums)| Cell::number(f64::from(*streams) * cost(sums) / cost(one), 2, " ×"))
                .collect()
        };
        let time = against_one(&|sums| 1.0 / rate(sums));
        table.row("time_against_one", "time for that many answers, in times of one", time);
        let work = against_one(&processor);
        table.row("processor_against_one", "processor time for them, in that of one", work);
    }
    let length = |sums: &Sums| Cell::number(sums.tokens / sums.prompts, 0, "");
    table.row("answer_tokens", "(tokens of an answer)", each(&length));
    let read = |sums: &Sums| Cell::number(sums.read / sums.prompts, 1, "");
    table.row(
        "prompt_tokens",
        "(tokens of a prompt that weren't in the cache)",
        each(&read),
    );
    Ok(vec![format!(
        "Answered: prompts that begin differently, up to {} tokens greedily, {} rounds of at least {} s for each number of streams.",
        arguments.tokens,
        arguments.rounds,
        LEAST.as_secs()
    )])
}

/// The question of that number.
fn question(number: usize) -> String {
    format!(
        "{} {}",
        NAMES[number % NAMES.len()],
        BEGINNINGS[number % BEGINNINGS.len()]
    )
}

fn answer(session: &mut Session, streams: u32, tokens: u32, asked: &mut usize, sums: &mut Sums) -> Result<(), String> {
    let began = Instant::now();
    let mut answers = Vec::new();
    for _ in 0..streams {
        let chat = Chat {
            messages: vec![ChatMessage {
                role: Role::User,
                content: question(*asked),
                tool_calls: Vec::new(),
                tool_call_id: None,
                images: Vec::new(),
            }],
            ..Chat::default()
        };
        *asked += 1;
        let params = LlmParams {
            max_tokens: tokens,
            temperature: Some(0.0),
            ..LlmParams::default()
        };
        let chat = serde_json::to_vec(&chat).map_err(|error| error.to_string())?;
        answers.push(Answer {
            asked: Instant::now(),
            stream: session.open(Params::Llm(params), &chat)?,
            pieces: 0,
            usage: None,
        });
    }
    while !answers.iter().all(|answer| answer.usage.is_some()) {
        let Some(heard) = session.hear(None)? else {
            continue;
        };
        let Some(stream) = heard.message.stream() else {
            continue;
        };
        let Some(answer) = answers.iter_mut().find(|answer| answer.stream == stream) else {
            continue;
        };
        match heard.message {
            ToEngine::Token(_) => {
                if answer.pieces == 0 {
                    let after = heard.at.duration_since(answer.asked);
                    sums.first_token.push(after.as_secs_f64() * 1000.0);
                }
                answer.pieces += 1;
            }
            ToEngine::Done(done) => answer.usage = Some(done.usage),
            _ => {}
        }
    }
    let wall = began.elapsed().as_secs_f64();
    let mut made = 0.0;
    for answer in &answers {
        let usage = answer.usage.unwrap_or_default();
        // A worker that doesn't count its tokens is believed to send one at a time.
        made += f64::from(if usage.completion_tokens == 0 {
            answer.pieces
        } else {
            usage.completion_tokens
        });
        sums.read += f64::from(usage.prompt_tokens.saturating_sub(usage.cached_tokens));
    }
    sums.prompts += f64::from(streams);
    sums.tokens += made;
    sums.tokens_per_second.push(made / wall);
    Ok(())
}
