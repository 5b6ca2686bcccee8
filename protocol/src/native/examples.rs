//! One message at least of each type, as it stands on the wire: shown in the documents, read by the tests.

/// An example.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// What it shows.
    pub shows: &'static str,
    /// The message.
    pub json: &'static str,
}

const fn example(shows: &'static str, json: &'static str) -> Example {
    Example { shows, json }
}

/// What a client sends.
pub const CONTROLS: &[Example] = &[
    example(
        "The shortest: raw pcm16 at 16000 Hz both ways.",
        r#"{"type":"hello","version":1}"#,
    ),
    example(
        "A telephone line in RTP, with a token and settings of its own.",
        r#"{"type":"hello","id":"1","version":1,"token":"a-long-secret","client":"bridge/2.1","input":{"codec":"pcmu","rate":8000,"channels":1,"framing":"rtp"},"output":{"codec":"pcma","framing":"rtp"},"settings":{"instructions":"You take orders for a bakery.","language":"en-US","endpointing":{"silence_ms":500}}}"#,
    ),
    example(
        "Every setting.",
        r#"{"type":"update","id":"2","instructions":"Be brief.","voice":"cmu_us_slt","language":"en","stages":{"stt":true,"llm":true,"tts":false},"turn_detection":"client","speech":{"start_threshold":0.6,"stop_threshold":0.4,"min_speech_ms":120,"pre_roll_ms":250},"endpointing":{"silence_ms":400,"max_silence_ms":1200,"hard_limit_ms":20000,"eager_ms":200},"barge_in":{"enabled":true,"confirm_ms":300,"duck_gain":0.2},"tools":[{"name":"weather","description":"Tells the weather of a place.","parameters":{"type":"object","properties":{"place":{"type":"string"}},"required":["place"]}}],"temperature":0.7,"approval":false}"#,
    ),
    example(
        "One setting; the others stay.",
        r#"{"type":"update","endpointing":{"silence_ms":800}}"#,
    ),
    example(
        "Spoken after what is being spoken.",
        r#"{"type":"say","text":"One moment, please."}"#,
    ),
    example(
        "Spoken at once, to its end, and forgotten.",
        r#"{"type":"say","text":"This call is recorded.","interrupt":true,"interruptible":false,"remember":false}"#,
    ),
    example("A typed turn.", r#"{"type":"text","text":"What time is it?"}"#),
    example("The user has finished.", r#"{"type":"commit"}"#),
    example("The assistant opens the conversation.", r#"{"type":"respond"}"#),
    example("Stop whatever is being said.", r#"{"type":"cancel"}"#),
    example(
        "Stop this response, and no later one.",
        r#"{"type":"cancel","response":"resp_3"}"#,
    ),
    example("Forget what is being said.", r#"{"type":"clear"}"#),
    example("A key.", r##"{"type":"dtmf","digit":"#"}"##),
    example(
        "The weather is told, and the model goes on.",
        r#"{"type":"tool_output","call_id":"call_7","output":"{\"celsius\":21}"}"#,
    ),
    example(
        "A result that needs no words.",
        r#"{"type":"tool_output","call_id":"call_8","output":"done","respond":false}"#,
    ),
    example(
        "One item out of the history.",
        r#"{"type":"edit","edit":"delete","item":"item_2"}"#,
    ),
    example(
        "The last answer and its question are taken back.",
        r#"{"type":"edit","edit":"rollback"}"#,
    ),
    example("A new conversation.", r#"{"type":"edit","edit":"clear"}"#),
    example(
        "What happened before the call.",
        r#"{"type":"edit","edit":"append","role":"system","text":"The caller's name is Ada."}"#,
    ),
    example(
        "Another recogniser, for this session, in the middle of a word.",
        r#"{"type":"switch","id":"w1","kind":"stt","backend":"whisper","model":"ggml-base.bin","options":{"language":"en"}}"#,
    ),
    example(
        "Another voice for everybody, from the next turn on.",
        r#"{"type":"switch","kind":"tts","voice":"slt","scope":"server","when":"next_turn"}"#,
    ),
    example(
        "A candidate that only runs beside.",
        r#"{"type":"switch","kind":"llm","model":"llm/chat.gguf","shadow":true}"#,
    ),
    example("It did well.", r#"{"type":"promote","kind":"llm"}"#),
    example("Never mind.", r#"{"type":"cancel_switch","kind":"stt"}"#),
    example("This may be said.", r#"{"type":"approve","response":"resp_4"}"#),
    example("What could serve?", r#"{"type":"capabilities","id":"c1"}"#),
    example("How are things?", r#"{"type":"status","id":"s1"}"#),
    example("Are you there?", r#"{"type":"ping","id":"p1"}"#),
    example("Good-bye.", r#"{"type":"bye"}"#),
];

/// What a server sends.
pub const EVENTS: &[Example] = &[
    example(
        "The answer to a hello for RTP.",
        r#"{"type":"ready","session":"sess_4be1c9d02f6a7785","version":1,"server":"repartee/0.1.0","input":{"codec":"pcmu","rate":8000,"channels":1,"framing":"rtp","frame_ms":20,"rtp":{"payload_type":0,"clock_rate":8000,"telephone_event":101,"comfort_noise":13}},"output":{"codec":"pcma","rate":8000,"channels":1,"framing":"rtp","frame_ms":20,"rtp":{"payload_type":8,"clock_rate":8000,"telephone_event":101,"comfort_noise":13,"ssrc":3735928559}},"settings":{"language":"en-US","stages":{"stt":true,"llm":true,"tts":true},"turn_detection":"server","speech":{"start_threshold":0.5,"stop_threshold":0.35,"min_speech_ms":90,"pre_roll_ms":300},"endpointing":{"silence_ms":500,"max_silence_ms":1600,"hard_limit_ms":30000,"eager_ms":0},"barge_in":{"enabled":true,"confirm_ms":240,"duck_gain":0.25},"tools":[]},"backends":[{"kind":"stt","state":"ready","name":"pocketsphinx","model":"pocketsphinx-en-us","generation":1},{"kind":"llm","state":"missing","reason":"no language model is configured"}],"limits":{"max_message_bytes":262144,"max_text_chars":8000,"max_response_tokens":512,"max_history_items":200,"idle_timeout_ms":0},"reply_to":"1"}"#,
    ),
    example(
        "Somebody speaks.",
        r#"{"type":"speech_started","turn":"turn_1","at_ms":812.5}"#,
    ),
    example(
        "And stops.",
        r#"{"type":"speech_stopped","turn":"turn_1","at_ms":2410}"#,
    ),
    example(
        "A partial transcript, whose first four characters stay.",
        r#"{"type":"transcript","turn":"turn_1","revision":1,"text":"what time","stable_chars":4,"final":false}"#,
    ),
    example(
        "The final one.",
        r#"{"type":"transcript","turn":"turn_1","revision":4,"text":"what time is it","stable_chars":15,"final":true}"#,
    ),
    example(
        "The reply begins.",
        r#"{"type":"response_started","response":"resp_1","turn":"turn_1"}"#,
    ),
    example(
        "A reply that answers no turn.",
        r#"{"type":"response_started","response":"resp_2"}"#,
    ),
    example(
        "Its text, piece by piece.",
        r#"{"type":"response_text","response":"resp_1","delta":"It is "}"#,
    ),
    example(
        "The model wants something looked up.",
        r#"{"type":"tool_call","response":"resp_1","call_id":"call_7","name":"weather","arguments":"{\"place\":\"Oslo\"}"}"#,
    ),
    example("Its audio begins.", r#"{"type":"audio_started","response":"resp_1"}"#),
    example(
        "It grows quieter: somebody speaks.",
        r#"{"type":"ducked","response":"resp_1","ducked":true}"#,
    ),
    example(
        "Its audio ends.",
        r#"{"type":"audio_done","response":"resp_1","sent_ms":1480}"#,
    ),
    example(
        "It was interrupted; the history holds what was heard.",
        r#"{"type":"response_done","response":"resp_1","status":"interrupted","text":"It is half past nine.","heard":"It is half","heard_ms":1240.063,"item":"item_2"}"#,
    ),
    example(
        "Where the time went.",
        r#"{"type":"turn_report","turn":"turn_1","response":"resp_1","speech_end_ms":2410,"stages":[{"stage":"endpointing","ms":600},{"stage":"stt_final","ms":80.25},{"stage":"llm_first_token","ms":0.4},{"stage":"first_sentence","ms":0},{"stage":"tts_first_audio","ms":12.1},{"stage":"send","ms":0.25}],"total_ms":693,"endpointing_ms":600,"stt_final_ms":80.25,"llm_first_token_ms":0.4,"first_sentence_ms":0,"tts_first_audio_ms":12.1,"send_ms":0.25}"#,
    ),
    example("A key.", r#"{"type":"dtmf","digit":"5"}"#),
    example(
        "The history has so many items now.",
        r#"{"type":"history_edited","items":3}"#,
    ),
    example(
        "The settings now.",
        r#"{"type":"updated","settings":{"voice":"cmu_us_slt","stages":{"stt":true,"llm":true,"tts":true},"turn_detection":"server","speech":{"start_threshold":0.5,"stop_threshold":0.35,"min_speech_ms":90,"pre_roll_ms":300},"endpointing":{"silence_ms":800,"max_silence_ms":1600,"hard_limit_ms":30000,"eager_ms":0},"barge_in":{"enabled":true,"confirm_ms":240,"duck_gain":0.25},"tools":["weather"],"temperature":0.7},"reply_to":"2"}"#,
    ),
    example(
        "A worker died and is being started again.",
        r#"{"type":"backend","kind":"stt","state":"lost","generation":1,"reason":"the worker was killed by signal 9"}"#,
    ),
    example(
        "It would say this.",
        r#"{"type":"response_prepared","response":"resp_4","turn":"turn_5","text":"It is half past nine."}"#,
    ),
    example(
        "A recogniser is being loaded.",
        r#"{"type":"switch_started","switch":"switch_1","kind":"stt","to":{"backend":"whisper","model":"ggml-base.bin"},"scope":"session"}"#,
    ),
    example(
        "And serves.",
        r#"{"type":"switched","switch":"switch_1","kind":"stt","old":{"backend":"pocketsphinx","model":"pocketsphinx-en-us"},"new":{"backend":"whisper","model":"ggml-base.bin"},"scope":"session","load_ms":812,"gap_ms":0}"#,
    ),
    example(
        "Or doesn't, and why.",
        r#"{"type":"switch_failed","switch":"switch_2","kind":"llm","stage":"check","reason":"it needs 5.1 GiB of memory, 3.0 are free; with replace = true what serves now is stopped first, which makes room","replace_may_help":true,"serving":{"backend":"parrot","model":"parrot"}}"#,
    ),
    example(
        "The candidate heard nearly the same words, sooner.",
        r#"{"type":"shadowed","kind":"stt","agreement":0.875,"live_ms":240,"candidate_ms":95}"#,
    ),
    example(
        "What could serve.",
        r#"{"type":"capabilities","backends":[{"kind":"stt","backend":"pocketsphinx","available":true,"devices":["cpu"],"models":[{"model":"pocketsphinx-en-us","available":true,"serving":true}]},{"kind":"stt","backend":"whisper","available":false,"reason":"the worker isn't built","remedy":"make worker-whisper","models":[]}],"reply_to":"c1"}"#,
    ),
    example(
        "The state of the session.",
        r#"{"type":"status","backends":[{"kind":"tts","state":"ready","name":"flite","model":"cmu_us_rms","generation":2}],"turn":"turn_4","received_ms":61020,"dropped_ms":0,"turns":4,"responses":3,"history_items":7,"stale_answers":1,"reply_to":"s1"}"#,
    ),
    example(
        "A mistyped field.",
        r#"{"type":"error","code":"unknown_field","origin":"client","retry":false,"message":"there is no field \"silence\" in endpointing; did you mean \"silence_ms\"?","field":"endpointing.silence","reply_to":"2"}"#,
    ),
    example(
        "An error that ends the connection.",
        r#"{"type":"error","code":"unauthorized","origin":"client","retry":false,"message":"the access token is wrong","close_code":4401}"#,
    ),
    example("The server stops soon.", r#"{"type":"going_away","within_ms":10000}"#),
    example("The end.", r#"{"type":"closed","reason":"bye"}"#),
    example("Here I am.", r#"{"type":"pong","reply_to":"p1"}"#),
];
