use super::*;

fn config(text: &str) -> Config {
    match Request::parse(text) {
        Ok(Request::Config(config)) => config,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_configuration_says_what_it_says() {
    assert_eq!(config(r#"{"config":{}}"#), Config::default());
    let all = config(
        r#"{"config":{"sample_rate":16000.0,"phrase_list":["yes","no"],"words":true,"max_alternatives":2,"model":"en","new":{}}}"#,
    );
    assert_eq!(
        all,
        Config {
            sample_rate_hz: Some(16_000),
            phrase_list: Some(vec!["yes".into(), "no".into()]),
            words: Some(true),
            max_alternatives: Some(2),
            model: Some("en".to_owned()),
        }
    );
    // As Python takes them.
    let loose = config(r#"{ "config" : { "sample_rate" : "8000", "words" : 1, "max_alternatives" : "0" } }"#);
    assert_eq!(
        (loose.sample_rate_hz, loose.words, loose.max_alternatives),
        (Some(8000), Some(true), Some(0))
    );
    assert_eq!(config(r#"{"config":{"words":0}}"#).words, Some(false));
    assert_eq!(config(r#"{"config":{"words":null}}"#).words, None);
    // The phrases are what somebody may say.
    assert!(!format!("{all:?}").contains("yes"));
    let many = format!(
        r#"{{"config":{{"phrase_list":[{}]}}}}"#,
        vec!["\"a\""; 20_000].join(",")
    );
    assert_eq!(config(&many).phrase_list.map(|list| list.len()), Some(MAX_PHRASES));
}

#[test]
fn the_end_and_the_reset_are_found_however_they_are_spaced() {
    for text in [
        r#"{"eof" : 1}"#,
        r#"{"eof":1}"#,
        "{ \"eof\" :\n1 }",
        r#"{"eof":true,"x":2}"#,
    ] {
        assert_eq!(Request::parse(text), Ok(Request::Eof), "{text}");
    }
    for text in [
        r#"{"reset" : 1}"#,
        r#"{"reset":1}"#,
        r#"{"reset":"yes"}"#,
        r#"{"eof":0,"reset":1}"#,
    ] {
        assert_eq!(Request::parse(text), Ok(Request::Reset), "{text}");
    }
    assert_eq!(
        Request::parse(r#"{"eof":1,"config":{}}"#),
        Ok(Request::Config(Config::default()))
    );
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let deep = "[".repeat(100_000);
    for (text, error) in [
        ("", RequestError::Malformed),
        ("eof", RequestError::Malformed),
        ("[]", RequestError::Malformed),
        (deep.as_str(), RequestError::Malformed),
        ("{}", RequestError::Unknown),
        (r#"{"eof":0}"#, RequestError::Unknown),
        (r#"{"text":"config"}"#, RequestError::Unknown),
        (r#"{"config":1}"#, RequestError::Field("config")),
        (r#"{"config":{"sample_rate":0}}"#, RequestError::Field("sample_rate")),
        (
            r#"{"config":{"sample_rate":1e300}}"#,
            RequestError::Field("sample_rate"),
        ),
        (
            r#"{"config":{"sample_rate":"NaN"}}"#,
            RequestError::Field("sample_rate"),
        ),
        (r#"{"config":{"sample_rate":[]}}"#, RequestError::Field("sample_rate")),
        (
            r#"{"config":{"max_alternatives":-1}}"#,
            RequestError::Field("max_alternatives"),
        ),
        (r#"{"config":{"phrase_list":"a"}}"#, RequestError::Field("phrase_list")),
        (r#"{"config":{"phrase_list":[1]}}"#, RequestError::Field("phrase_list")),
        (r#"{"config":{"model":1}}"#, RequestError::Field("model")),
    ] {
        assert_eq!(Request::parse(text), Err(error), "{text:.40}");
    }
    let long = " ".repeat(MAX_TEXT_BYTES + 1);
    assert_eq!(Request::parse(&long), Err(RequestError::TooLong(MAX_TEXT_BYTES + 1)));
}

#[test]
fn replies_are_laid_out_as_vosk_does_it() {
    let words = vec![
        Word {
            word: "one".into(),
            start_ms: 840,
            end_ms: 1110,
            confidence: 1.0,
        },
        Word {
            word: "zero".into(),
            start_ms: 1110,
            end_ms: 12_005,
            confidence: 0.5,
        },
    ];
    let cases = [
        (Reply::Partial("on".into()), "{\n  \"partial\" : \"on\"\n}"),
        (
            Reply::Result {
                text: "".into(),
                words: vec![],
            },
            "{\n  \"text\" : \"\"\n}",
        ),
        (
            Reply::Result {
                text: "one zero".into(),
                words: words.clone(),
            },
            r#"{
  "result" : [{
      "conf" : 1.000000,
      "end" : 1.110000,
      "start" : 0.840000,
      "word" : "one"
    }, {
      "conf" : 0.500000,
      "end" : 12.005000,
      "start" : 1.110000,
      "word" : "zero"
    }],
  "text" : "one zero"
}"#,
        ),
        (
            Reply::Alternatives(vec![
                Alternative {
                    text: "one".into(),
                    confidence: Some(199.75),
                    words: words[..1].to_vec(),
                },
                Alternative {
                    text: "won \"1\"".into(),
                    confidence: Some(f32::NAN),
                    words: vec![],
                },
            ]),
            r#"{
  "alternatives" : [{
      "confidence" : 199.750000,
      "result" : [{
          "end" : 1.110000,
          "start" : 0.840000,
          "word" : "one"
        }],
      "text" : "one"
    }, {
      "confidence" : 0.000000,
      "text" : "won \"1\""
    }]
}"#,
        ),
        (
            Reply::Alternatives(vec![Alternative {
                text: "one".into(),
                confidence: None,
                words: vec![],
            }]),
            "{\n  \"alternatives\" : [{\n      \"text\" : \"one\"\n    }]\n}",
        ),
        (
            Reply::Alternatives(vec![]),
            r#"{"alternatives" : [{"text": "", "confidence" : 1.0}] }"#,
        ),
    ];
    for (reply, expected) in cases {
        assert_eq!(reply.to_text(), expected);
        assert!(serde_json::from_str::<Value>(expected).is_ok(), "{expected}");
    }
}

#[test]
fn random_texts_are_read_or_refused() {
    let mut state = 31_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let seed = r#"{"config":{"sample_rate":16000.0,"phrase_list":["yes"],"words":true,"max_alternatives":2},"eof":1}"#;
    for _ in 0..20_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..1 + next() % 4 {
            let place = next() % bytes.len();
            bytes[place] = if next() % 2 == 0 {
                next() as u8
            } else {
                b"{}[]\",:-e9"[next() % 10]
            };
        }
        if let Ok(Request::Config(config)) = Request::parse(&String::from_utf8_lossy(&bytes)) {
            assert!(config.sample_rate_hz.is_none_or(|rate| RATES_HZ.contains(&rate)));
        }
    }
}
