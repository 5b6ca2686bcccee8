//! The tones of a call, by simple rules: fax machines, ringing, busy, the beep of a voicemail, and an announcement
//! that never stops.
//!
//! [`CallProgress`] looks at 20 ms at a time, at 8 kHz. A single tone is what a predictor of two coefficients foresees: it
//! gives the frequency, and Goertzel's sum at that frequency the purity. The two-tone signals of North America and
//! Britain are measured over 100 ms, in which tones of whole tens of hertz are orthogonal.
//!
//! 20 ms cost 4.5 µs.
//!
//! Sources: ITU-T T.30 §4.1 (calling tone 1100 Hz, 0.5 s on and 3 s off; answering tone 2100 Hz for 2.6 to 4 s); ITU-T
//! E.180 and its Supplement 2 (ringing and busy of the countries: 400 to 450 Hz, or 440 with 480 and 480 with 620 Hz; special
//! information tone 950, 1400 and 1800 Hz, 330 ms each). A beep has no standard: what is looked for is a steady tone of 0.15
//! to 2 s after speech, with silence behind it.

use std::time::Duration;

use super::frame::SampleRate;

/// The rate that tones are looked for at.
const HZ: usize = 8_000;
/// Samples of a block: 20 ms.
const BLOCK: usize = HZ / 50;
/// Blocks in a second.
const SECOND: u32 = 50;
/// Blocks of the window for two tones at once: 100 ms.
const WINDOW: usize = 5;
/// Mean square of a block (of 1) that may hold a tone, and of one that is quiet: -45 dBov.
const AUDIBLE: f32 = 3.2e-5;
/// The least share of a block's power that is in its tone: the rest is 10 dB below.
const PURE: f32 = 0.9;
/// The least share of two tones at once, in the window.
const PURE_PAIR: f32 = 0.75;
/// Blocks of sound in a row that are speech: 100 ms.
const SPEECH: u32 = 5;
/// How far a steady tone may wander, in Hz.
const STEADY_HZ: f32 = 15.0;
/// How far a ringing or busy burst may differ from the one before: a third, or two blocks.
const ALIKE: (u32, u32) = (3, 2);

/// What was recognised. What a client is told is the vocabulary of a call, which this room doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A fax machine calls (ITU-T T.30 CNG).
    FaxCalling,
    /// A fax machine answers (ITU-T T.30 CED).
    FaxAnswering,
    /// The far side has been ringing for longer than [`Patience::ringing`].
    Ringing,
    /// The far side is busy, or the network is congested.
    Busy,
    /// The network's three rising tones: the number cannot be reached.
    SpecialInformation,
    /// A single tone after speech and before silence: a voicemail records.
    Beep,
    /// The far side has spoken for longer than [`Patience::greeting`] from the beginning, without a pause.
    EndlessGreeting,
}

/// After how long something is told that goes on for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Since the first ringing tone. By default 30 s, five or six rings of most networks.
    pub ringing: Duration,
    /// Since the first word of the far side. By default 30 s: greetings of people and voicemails are shorter.
    pub greeting: Duration,
    /// A greeting's end: so long a pause is one to answer in. By default 1.2 s.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            ringing: Duration::from_secs(30),
            greeting: Duration::from_secs(30),
            pause: Duration::from_millis(1_200),
        }
    }
}

/// What a block sounds like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sound {
    Quiet,
    Speech,
    Tone(Tone),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Tone {
    /// One, of so many Hz.
    Single(f32),
    /// 440 with 480 Hz, or 400 with 450 Hz.
    Ring,
    /// 480 with 620 Hz.
    Busy,
}

impl Tone {
    fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Single(a), Self::Single(b)) => (a - b).abs() <= STEADY_HZ,
            _ => self == other,
        }
    }

    /// Near to so many Hz.
    fn is_hz(self, hz: f32, tolerance: f32) -> bool {
        matches!(self, Self::Single(found) if (found - hz).abs() <= tolerance)
    }

    /// Of those that ringing and busy have in common in most countries.
    fn is_national(self) -> bool {
        self.is_hz(425.0, 35.0)
    }
}

/// A tone that was on for so many blocks, with so many quiet ones before it.
#[derive(Debug, Clone, Copy)]
struct Burst {
    tone: Tone,
    blocks: u32,
    before: u32,
}

/// Listens to what is received, and tells each thing once.
#[derive(Debug)]
pub struct CallProgress {
    patience: Patience,
    /// Samples of the far side for one of ours, and those of the next that are there already: their sum and number.
    step: i32,
    sum: i32,
    summed: i32,
    block: Vec<f32>,
    pairs: Pairs,
    /// Blocks since the beginning.
    now: u32,
    burst: Option<Burst>,
    /// Blocks in which a tone was interrupted, such as by the turning phase of 2100 Hz.
    missing: u32,
    /// Quiet blocks before now, and blocks with a sound that is not known to be speech yet.
    quiet: u32,
    sounding: u32,
    /// Blocks of speech so far, and when the last was.
    speech: u32,
    spoke_at: u32,
    /// The tone that is a beep if silence follows until then.
    beep: Option<u32>,
    /// When a calling tone ended that the next may confirm.
    calling: Option<u32>,
    /// How many of the three tones of special information have come, and when the last ended.
    special: (usize, u32),
    /// The last burst of ringing or busy, and how many like it came at busy's pace.
    last: Option<Burst>,
    fast: u32,
    ringing_since: Option<u32>,
    rings: u32,
    greeting: Greeting,
    found: Found,
}

/// Whether the far side has let anybody speak yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Awaited,
    Since(u32),
    Over,
}

/// What was found: to be told, and told.
#[derive(Debug, Default)]
struct Found {
    due: [bool; EVENTS.len()],
    told: [bool; EVENTS.len()],
}

const EVENTS: [Signal; 7] = [
    Signal::FaxCalling,
    Signal::FaxAnswering,
    Signal::Ringing,
    Signal::Busy,
    Signal::SpecialInformation,
    Signal::Beep,
    Signal::EndlessGreeting,
];

impl Found {
    fn add(&mut self, signal: Signal) {
        for (event, due) in EVENTS.iter().zip(&mut self.due) {
            *due |= *event == signal;
        }
    }

    fn poll(&mut self) -> Option<Signal> {
        let index = (0..EVENTS.len()).find(|&index| self.due[index] && !self.told[index])?;
        self.told[index] = true;
        Some(EVENTS[index])
    }
}

fn blocks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / 20).unwrap_or(u32::MAX)
}

impl CallProgress {
    /// A listener to samples at `rate`, from the beginning of a call on.
    #[must_use]
    pub fn new(rate: SampleRate, patience: Patience) -> Self {
        Self {
            patience,
            step: (rate.hz() as usize / HZ) as i32,
            sum: 0,
            summed: 0,
            block: Vec::with_capacity(BLOCK),
            pairs: Pairs::new(),
            now: 0,
            burst: None,
            missing: 0,
            quiet: 0,
            sounding: 0,
            speech: 0,
            spoke_at: 0,
            beep: None,
            calling: None,
            special: (0, 0),
            last: None,
            fast: 0,
            ringing_since: None,
            rings: 0,
            greeting: Greeting::Awaited,
            found: Found::default(),
        }
    }

    /// Takes the next samples, however many. Ask [`poll`](Self::poll) afterwards. It never allocates.
    pub fn push(&mut self, pcm: &[i16]) {
        for &sample in pcm {
            self.sum += i32::from(sample);
            self.summed += 1;
            if self.summed < self.step {
                continue;
            }
            self.block.push(self.sum as f32 / (self.step as f32 * 32_768.0));
            (self.sum, self.summed) = (0, 0);
            if self.block.len() == BLOCK {
                let sound = self.listen();
                self.block.clear();
                self.now = self.now.saturating_add(1);
                self.take(sound);
            }
        }
    }

    /// The next thing that was recognised and not told yet. Each is told once in a call.
    pub fn poll(&mut self) -> Option<Signal> {
        self.found.poll()
    }

    fn listen(&mut self) -> Sound {
        let power = self.block.iter().map(|sample| sample * sample).sum::<f32>() / BLOCK as f32;
        let pair = self.pairs.push(&self.block, power);
        if power < AUDIBLE {
            return Sound::Quiet;
        }
        // Two tones near to each other are one that swells, in a block: the window knows better.
        pair.or_else(|| single(&self.block, power).map(Tone::Single))
            .map_or(Sound::Speech, Sound::Tone)
    }

    fn take(&mut self, sound: Sound) {
        match (self.burst, sound) {
            (Some(mut burst), Sound::Tone(tone)) if burst.tone.is_like(tone) => {
                burst.blocks += 1 + self.missing;
                self.missing = 0;
                self.burst = Some(burst);
                self.goes_on(burst);
            }
            // A window that fills is taken for one tone at first.
            (Some(burst), Sound::Tone(tone @ (Tone::Ring | Tone::Busy))) if burst.blocks < WINDOW as u32 => {
                let blocks = burst.blocks + 1 + self.missing;
                self.burst = Some(Burst { tone, blocks, ..burst });
                self.missing = 0;
            }
            // One block in which it breaks does not end a tone.
            (Some(_), _) if self.missing == 0 => self.missing = 1,
            (Some(burst), _) => {
                self.burst = None;
                self.ended(burst);
                // The break was the first block of what comes now.
                self.quiet = u32::from(sound == Sound::Quiet);
                self.missing = 0;
                self.sounding = 0;
                self.other(sound);
            }
            (None, _) => self.other(sound),
        }
        self.wait();
    }

    /// A block outside of a tone.
    fn other(&mut self, sound: Sound) {
        match sound {
            Sound::Quiet => {
                self.quiet = self.quiet.saturating_add(1);
                self.sounding = 0;
            }
            Sound::Speech => {
                self.sounding = self.sounding.saturating_add(1);
                // The beginning of a tone is no tone yet, and a click is no speech.
                if self.sounding < SPEECH {
                    return;
                }
                self.speech = self.speech.saturating_add(1);
                self.spoke_at = self.now;
                self.beep = None;
                if self.greeting == Greeting::Awaited {
                    self.greeting = Greeting::Since(self.now);
                }
                self.quiet = 0;
            }
            Sound::Tone(tone) => {
                self.burst = Some(Burst {
                    tone,
                    blocks: 1,
                    before: self.quiet,
                });
                self.sounding = 0;
                self.quiet = 0;
            }
        }
    }

    /// A tone that is still there.
    fn goes_on(&mut self, burst: Burst) {
        // 1.5 s, well below the 2.6 s that it lasts, and longer than any beep or voice holds 2100 Hz.
        if burst.tone.is_hz(2_100.0, 20.0) && burst.blocks >= SECOND * 3 / 2 {
            self.found.add(Signal::FaxAnswering);
        }
        if burst.blocks > 3 {
            self.beep = None;
        }
    }

    fn ended(&mut self, burst: Burst) {
        let Burst { tone, blocks, .. } = burst;
        let started = self.now.saturating_sub(blocks + 1);
        // Less than 0.1 s is a syllable.
        if blocks < WINDOW as u32 {
            self.speech = self.speech.saturating_add(blocks);
            return;
        }
        let is_calling = tone.is_hz(1_100.0, 38.0) && (21..=29).contains(&blocks);
        if is_calling {
            // 3 s and 15 % more or less, by T.30.
            if self
                .calling
                .is_some_and(|ended| (127..=173).contains(&started.saturating_sub(ended)))
            {
                self.found.add(Signal::FaxCalling);
            }
            self.calling = Some(self.now - 1);
        }
        self.special(tone, blocks, started);
        self.cadence(burst);
        let spoken = self.speech >= SECOND && started.saturating_sub(self.spoke_at) <= 3 * SECOND;
        if spoken && self.special.0 == 0 && (7..=2 * SECOND).contains(&blocks) {
            // A tone that could also be ringing, busy or fax is waited for: their next burst would follow.
            let silence = match tone {
                _ if tone.is_national() => SECOND,
                _ if is_calling => 4 * SECOND,
                Tone::Single(hz) if (400.0..=2_000.0).contains(&hz) => SECOND * 3 / 10,
                _ => return,
            };
            self.beep = Some(self.now + silence);
        }
    }

    /// The three rising tones.
    fn special(&mut self, tone: Tone, blocks: u32, started: u32) {
        const STEPS: [f32; 3] = [950.0, 1_400.0, 1_800.0];
        let (step, ended) = self.special;
        let in_time = step == 0 || started.saturating_sub(ended) <= 6;
        // 330 ms and 70 ms more or less, by E.180; some networks have 270 ms.
        let long = (11..=21).contains(&blocks);
        self.special = match STEPS.get(step) {
            Some(&hz) if long && in_time && tone.is_hz(hz, 50.0) => (step + 1, self.now - 1),
            _ if long && tone.is_hz(STEPS[0], 50.0) => (1, self.now - 1),
            _ => (0, 0),
        };
        if self.special.0 == STEPS.len() {
            self.found.add(Signal::SpecialInformation);
        }
    }

    /// Ringing and busy differ by their pace.
    fn cadence(&mut self, burst: Burst) {
        let can_ring = burst.tone == Tone::Ring || burst.tone.is_national();
        let can_be_busy = burst.tone == Tone::Busy || burst.tone.is_national();
        if !can_ring && !can_be_busy {
            return;
        }
        let alike = |a: u32, b: u32| a.abs_diff(b) <= (a.max(b) / ALIKE.0).max(ALIKE.1);
        let follows = self.last.is_some_and(|last| {
            last.tone.is_like(burst.tone) && (6..=38).contains(&burst.before) && alike(last.blocks, burst.blocks)
        });
        // Busy and congestion are on for 0.2 to 0.6 s, and off for as long. Britain rings twice at that pace, never four times.
        self.fast = if can_be_busy && follows && burst.blocks <= 38 {
            self.fast + 1
        } else {
            0
        };
        if self.fast >= 3 {
            self.found.add(Signal::Busy);
        }
        if can_ring && burst.blocks >= 16 {
            self.ringing_since.get_or_insert(self.now.saturating_sub(burst.blocks));
            // A new ring comes after 1.5 to 5 s.
            if (SECOND * 3 / 2..=6 * SECOND).contains(&burst.before) {
                self.rings += 1;
            }
        }
        self.last = Some(burst);
    }

    /// What becomes true by time.
    fn wait(&mut self) {
        if self.beep.is_some_and(|due| self.now >= due) && self.burst.is_none() && self.sounding == 0 {
            self.beep = None;
            if self.quiet >= SECOND / 5 {
                self.found.add(Signal::Beep);
            }
        }
        if let Some(since) = self.ringing_since {
            // Who speaks has taken the call; a word or two of the network don't count.
            if self.spoke_at > since && self.speech > SECOND {
                self.ringing_since = None;
                self.rings = 0;
            } else if self.rings >= 1 && self.now - since >= blocks(self.patience.ringing) {
                self.found.add(Signal::Ringing);
            }
        }
        if let Greeting::Since(since) = self.greeting {
            if self.quiet >= blocks(self.patience.pause) {
                self.greeting = Greeting::Over;
            } else if self.now - since >= blocks(self.patience.greeting) {
                self.greeting = Greeting::Over;
                self.found.add(Signal::EndlessGreeting);
            }
        }
    }
}

/// The frequency of a block that is one tone and little else, in Hz.
fn single(block: &[f32], power: f32) -> Option<f32> {
    // A tone obeys x[n+1] + x[n-1] = 2 cos(w) x[n]; by least squares that gives the cosine.
    let (mut product, mut square) = (0.0, 0.0);
    for window in block.windows(3) {
        product += (window[0] + window[2]) * window[1];
        square += window[1] * window[1];
    }
    let cosine = product / (2.0 * square).max(f32::MIN_POSITIVE);
    if !(-0.3..0.98).contains(&cosine) {
        // Below 255 Hz and above 2.4 kHz there is nothing to look for.
        return None;
    }
    let angle = cosine.acos();
    // Goertzel's sum at that frequency.
    let (mut last, mut before) = (0.0, 0.0);
    for sample in block {
        (last, before) = (sample + 2.0 * cosine * last - before, last);
    }
    let found = last * last + before * before - 2.0 * cosine * last * before;
    let share = 2.0 * found / (power * (BLOCK * BLOCK) as f32);
    (share >= PURE).then_some(angle * HZ as f32 / std::f32::consts::TAU)
}

/// The frequencies of two-tone signals, in tens of Hz.
const PAIRED: [usize; 5] = [40, 44, 45, 48, 62];
/// 440 with 480 Hz, 400 with 450 Hz, 480 with 620 Hz, as places in [`PAIRED`].
const PAIRS: [(usize, usize, Tone); 3] = [(1, 3, Tone::Ring), (0, 2, Tone::Ring), (3, 4, Tone::Busy)];
/// Samples in which 10 Hz turn once.
const TURN: usize = HZ / 10;

/// The sums of the last 100 ms at the frequencies of two-tone signals.
#[derive(Debug)]
struct Pairs {
    cosines: Vec<f32>,
    /// Samples since the beginning, modulo a turn.
    phase: usize,
    /// By block: the sums, real and imaginary, and the power.
    sums: [[(f32, f32); PAIRED.len()]; WINDOW],
    powers: [f32; WINDOW],
    next: usize,
}

impl Pairs {
    fn new() -> Self {
        let turn = |n| (n as f32 / TURN as f32 * std::f32::consts::TAU).cos();
        Self {
            cosines: (0..TURN).map(turn).collect(),
            phase: 0,
            sums: [[(0.0, 0.0); PAIRED.len()]; WINDOW],
            powers: [0.0; WINDOW],
            next: 0,
        }
    }

    /// Takes a block of this power, and says whether the last 100 ms were one of the signals.
    fn push(&mut self, block: &[f32], power: f32) -> Option<Tone> {
        self.powers[self.next] = power;
        self.sums[self.next] = [(0.0, 0.0); PAIRED.len()];
        if power >= AUDIBLE {
            for (tens, sum) in PAIRED.iter().zip(&mut self.sums[self.next]) {
                let mut at = self.phase * tens % TURN;
                for sample in block {
                    sum.0 += sample * self.cosines[at];
                    sum.1 += sample * self.cosines[(at + TURN / 4) % TURN];
                    at = (at + tens) % TURN;
                }
            }
        }
        self.phase = (self.phase + block.len()) % TURN;
        self.next = (self.next + 1) % WINDOW;
        let total = self.powers.iter().sum::<f32>() / WINDOW as f32;
        let samples = (WINDOW * BLOCK) as f32;
        let share = |index: usize| {
            let re: f32 = self.sums.iter().map(|sums| sums[index].0).sum();
            let im: f32 = self.sums.iter().map(|sums| sums[index].1).sum();
            2.0 * (re * re + im * im) / (samples * samples * total.max(f32::MIN_POSITIVE))
        };
        PAIRS.iter().find_map(|&(low, high, tone)| {
            let (low, high) = (share(low), share(high));
            (low + high >= PURE_PAIR && low.min(high) >= 0.15).then_some(tone)
        })
    }
}

#[cfg(test)]
#[path = "tones/tests.rs"]
mod tests;
