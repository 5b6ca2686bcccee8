//! The cases on each wire: a module for each, so that `CASES=rtp` and the like choose one. A case takes some seventeen seconds, so each
//! wire has those in which it can differ from the others; any case can be added to any of them.

/// A test of the same name for each case of `calls`.
macro_rules! wire {
    ($wire:ident: $($case:ident),+ $(,)?) => {
        use crate::calls;
        use crate::server::Wire;

        $(
            #[test]
            fn $case() {
                calls::$case(Wire::$wire);
            }
        )+
    };
}

mod audiosocket_app {
    wire!(AudioSocketApp:
        the_greeting_is_heard_clean,
        what_a_caller_says_is_answered,
        a_caller_who_speaks_silences_the_reply,
        keys_are_a_turn,
        a_caller_who_hangs_up_ends_the_session,
        after_the_server_hangs_up_a_person_answers,
        a_bad_line_does_not_end_the_call,
        a_muted_phone_does_not_end_the_call,
        a_server_that_is_killed_leaves_nothing_behind,
        twenty_callers_hear_a_clean_greeting,
    );
}

mod audiosocket_channel {
    wire!(AudioSocketChannel:
        the_greeting_is_clean_in_other_codecs,
        a_caller_who_speaks_silences_the_reply,
        keys_are_a_turn,
        after_the_server_hangs_up_a_person_answers,
    );
}

mod chan_websocket_json {
    wire!(WebSocketJson:
        the_greeting_is_heard_clean,
        a_caller_who_speaks_silences_the_reply,
        keys_are_a_turn,
        a_caller_who_hangs_up_ends_the_session,
        after_the_server_hangs_up_a_person_answers,
        a_bad_line_does_not_end_the_call,
        a_server_that_is_killed_leaves_nothing_behind,
        twenty_callers_hear_a_clean_greeting,
    );
}

mod chan_websocket_plain {
    wire!(WebSocketPlain:
        the_greeting_is_heard_clean,
        a_caller_who_speaks_silences_the_reply,
        after_the_server_hangs_up_a_person_answers,
    );
}

mod rtp_by_ari {
    wire!(RtpByAri:
        the_greeting_is_heard_clean,
        a_caller_who_speaks_silences_the_reply,
        keys_are_a_turn,
        a_caller_who_hangs_up_ends_the_session,
        after_the_server_hangs_up_a_person_answers,
        a_transfer_reaches_the_extension,
        a_bad_line_does_not_end_the_call,
        a_server_that_is_killed_leaves_nothing_behind,
        twenty_callers_hear_a_clean_greeting,
    );
}
