//! What a channel's variables tell of its call.

use repartee_protocol::chan_websocket::{MediaStart, Variables};

use crate::phone::Facts;

/// Names of variables, without the underscores that let a channel inherit them, in the order in which they count.
const CALLER: &[&str] = &[
    "CALLER_NUM",
    "CALLER_NUMBER",
    "CALLERID(num)",
    "CALLERID_NUM",
    "CALLERIDNUM",
];
const CALLER_NAME: &[&str] = &["CALLER_NAME", "CALLERID(name)", "CALLERID_NAME", "CALLERIDNAME"];
const DIALLED: &[&str] = &[
    "DIALED_NUM",
    "DIALED_NUMBER",
    "DIALED",
    "DNID",
    "EXTEN",
    "DIALEDPEERNUMBER",
];
/// The driver's own, which tell nothing about a caller.
const OF_THE_DRIVER: &str = "MEDIA_WEBSOCKET_";

/// The facts of a call: its name is the channel's, or the connection's where Asterisk is too old to tell that.
pub(super) fn of(channel: Option<&str>, start: &MediaStart) -> Facts {
    let variables = &start.variables;
    let mut facts = Facts::of_call(channel.unwrap_or(&start.connection_id)).with_numbers(
        first(variables, CALLER),
        first(variables, CALLER_NAME),
        first(variables, DIALLED),
    );
    for (name, value) in variables.iter() {
        let name = bare(name);
        let is_known = [CALLER, CALLER_NAME, DIALLED].iter().any(|names| names.contains(&name));
        if !is_known && !name.starts_with(OF_THE_DRIVER) {
            facts.add_variable(name, value);
        }
    }
    facts
}

fn bare(name: &str) -> &str {
    name.trim_start_matches('_')
}

fn first<'a>(variables: &'a Variables, names: &[&str]) -> &'a str {
    let value = |name: &&str| {
        let value = variables.inherited(name)?.trim();
        // Dial() calls our own dial string the number of the peer: `repartee/c(slin16)`.
        let is_ours = *name == "DIALEDPEERNUMBER" && value.contains('/');
        (!value.is_empty() && !is_ours).then_some(value)
    };
    names.iter().find_map(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use repartee_protocol::chan_websocket::{Event, Message};

    use super::*;

    fn facts(variables: &str) -> Facts {
        let text = format!(
            r#"{{"event":"MEDIA_START","connection_id":"engine","channel_id":"17.4","format":"slin16","channel_variables":{variables}}}"#
        );
        let message = Message::parse(&text).unwrap();
        let Event::MediaStart(start) = message.event else {
            panic!("{message:?}")
        };
        of(message.channel_id.as_deref(), &start)
    }

    #[test]
    fn known_names_are_who_calls_whom_and_the_rest_is_kept() {
        let facts = facts(
            r#"{"DIALEDPEERNUMBER":"repartee/c(slin16)f(json)","MEDIA_WEBSOCKET_CONNECTION_ID":"x","__CALLER_NUM":"030 1",
                "__CALLER_NAME":"Ada","__DIALED_NUM":"7003","_ORDER":"12","EMPTY":""}"#,
        );
        let text = |fact: &Option<crate::pii::Pii<String>>| fact.as_ref().map(|fact| fact.expose().clone());
        assert_eq!(facts.call.as_deref(), Some("17.4"));
        assert_eq!(text(&facts.caller).as_deref(), Some("030 1"));
        assert_eq!(text(&facts.caller_name).as_deref(), Some("Ada"));
        assert_eq!(text(&facts.dialled).as_deref(), Some("7003"));
        let kept: Vec<(&str, &str)> = facts
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose().as_str()))
            .collect();
        assert_eq!(kept, [("ORDER", "12")]);
    }

    #[test]
    fn other_names_are_known_too() {
        let told =
            facts(r#"{"CALLERID(num)":" ","CALLERID_NUM":"5","CALLERID(name)":"Bob","DIALEDPEERNUMBER":"agent"}"#);
        assert_eq!(told.caller.unwrap().expose(), "5");
        assert_eq!(told.caller_name.unwrap().expose(), "Bob");
        assert_eq!(told.dialled.unwrap().expose(), "agent");
        assert_eq!(facts("{}"), Facts::of_call("17.4"));
    }
}
