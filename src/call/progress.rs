//! How a call goes before and beside the conversation: what the far side's tones say.

use serde::{Deserialize, Serialize};

/// Which end of a fax call a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaxSide {
    /// It calls (ITU-T T.30 CNG).
    Calling,
    /// It answers (ITU-T T.30 CED).
    Answering,
}

/// Something that was recognised in the sound of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum Progress {
    /// A fax machine is on the line.
    FaxTone {
        /// Which end it is.
        side: FaxSide,
    },
    /// The far side has been ringing for long and nobody takes the call.
    Ringing,
    /// The far side is busy, or the network is congested.
    Busy,
    /// The network's three rising tones: the number cannot be reached.
    SpecialInformation,
    /// A voicemail's greeting is over and the recording runs.
    Beep,
    /// The far side has spoken since the call began without a pause to answer in: an announcement.
    EndlessGreeting,
}
