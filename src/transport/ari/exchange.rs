//! Moves what goes in and out of calls: events and notices in, requests and commands out. It decides nothing about a call; what it does
//! decide is whose an event is, and what in Asterisk belongs to no call.

use std::collections::{BTreeMap, VecDeque};
use std::future::{pending, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use repartee_protocol::ari::{
    Bridge, Channel, ChannelState, Event, ExternalMedia, HangupReason, Media as AskedMedia, Request, VariableValue,
    Version,
};
use repartee_protocol::audiosocket::Rate;
use repartee_protocol::chan_websocket::Format;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::call::{Action, Ask, Call, Failure, Farewell, Input, Leg};
use super::client::{Client, Heard, listen};
use super::names::{Names, uuid};
use super::{Ari, AriOptions, Dial, Hooks, Media, RtpPort};
use crate::call::{Command, Digit, ToolOutput};
use crate::engine::{Clock, WeakCommands};
use crate::phone::{Announcement, Facts, Key, Notice, Phones, Ticket, Wish, tools};
use crate::pii::Pii;
use crate::time::Time;

/// Calls at the same time; the engine's own limit is lower where memory is meant to last.
const MOST_CALLS: usize = 2_000;
/// Events that may wait here; then the connection is read no further.
const MOST_EVENTS: usize = 256;
/// Notices of a call that may wait: nobody lets them.
const MOST_NOTICES: usize = 64;
/// Variables that are asked for.
const MOST_VARIABLES: usize = 32;
/// Callers whose calls have just ended, and who may still be seen in a list that was asked for before.
const MOST_RECENT: usize = 256;
/// From something that was left over to the next look at what there is.
const SWEEP_PAUSE: Duration = Duration::from_secs(30);

/// A call with what belongs to it.
struct Live {
    call: Call,
    uuid: [u8; 16],
    /// Its bridge and its media channel have this name.
    name: String,
    facts: Facts,
    notices: Option<mpsc::Receiver<Notice>>,
    ticket: Option<Ticket>,
    commands: Option<WeakCommands>,
    port: Option<Box<dyn RtpPort>>,
}

/// What a job has come to.
enum Done {
    Answered(u64, Ask, Result<Got, Failure>),
    /// What there is in Asterisk; and which calls were conversations when it was asked.
    Seen(Vec<u64>, Result<(Vec<Bridge>, Vec<Channel>), Failure>),
    /// Something that belongs to no call was ended, or not.
    Swept(Result<(), Failure>),
}

/// What a reply has in it.
enum Got {
    Nothing,
    Variables(Vec<(String, String)>),
    Channel(Box<Channel>),
}

struct Exchange {
    phones: Phones,
    options: AriOptions,
    hooks: Hooks,
    client: Client,
    format: Format,
    names: Names,
    clock: Clock,
    version: Option<Version>,
    calls: BTreeMap<u64, Live>,
    /// The channels of calls; a bridge has its media channel's name.
    channels: BTreeMap<String, (u64, Leg)>,
    recent: VecDeque<String>,
    jobs: JoinSet<Done>,
    next: u64,
    sweep_at: Option<Time>,
}

/// Runs an application.
pub(super) async fn run(ari: Ari) {
    let Ari {
        phones,
        options,
        hooks,
        client,
        format,
        state,
    } = ari;
    let (sender, mut heard) = mpsc::channel(MOST_EVENTS);
    // It ends with this.
    let mut listening = JoinSet::new();
    listening.spawn(listen(client.clone(), options.app.clone(), sender, state));
    let mut exchange = Exchange {
        names: Names::new(&options.app),
        phones,
        options,
        hooks,
        client,
        format,
        clock: Clock::start(),
        version: None,
        calls: BTreeMap::new(),
        channels: BTreeMap::new(),
        recent: VecDeque::new(),
        jobs: JoinSet::new(),
        next: 1,
        sweep_at: None,
    };
    let mut hears = true;
    loop {
        let deadline = exchange.deadline().map(|at| exchange.clock.instant(at));
        let alarm = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            event = heard.recv(), if hears => match event {
                Some(event) => exchange.heard(event),
                None => hears = false,
            },
            Some(done) = exchange.jobs.join_next(), if !exchange.jobs.is_empty() => {
                if let Ok(done) = done {
                    exchange.done(done);
                }
            }
            (call, notice) = next_notice(&mut exchange.calls) => exchange.notice(call, notice),
            () = alarm => exchange.tick(),
        }
    }
}

/// The next notice of any call; `None` with the call when there will be no more of it.
async fn next_notice(calls: &mut BTreeMap<u64, Live>) -> (u64, Option<Notice>) {
    poll_fn(|context| {
        for (id, live) in calls.iter_mut() {
            if let Some(notices) = &mut live.notices
                && let Poll::Ready(notice) = notices.poll_recv(context)
            {
                if notice.is_none() {
                    live.notices = None;
                }
                return Poll::Ready((*id, notice));
            }
        }
        Poll::Pending
    })
    .await
}

impl Exchange {
    fn deadline(&self) -> Option<Time> {
        let calls = self.calls.values().filter_map(|live| live.call.deadline()).min();
        [calls, self.sweep_at].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if self.sweep_at.is_some_and(|at| now >= at) {
            self.look_around();
        }
        let due: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, live)| live.call.deadline().is_some_and(|at| now >= at))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.drive(id, Input::Tick);
        }
    }

    fn heard(&mut self, heard: Heard) {
        let event = match heard {
            Heard::Connected(version) => {
                self.version = version;
                self.warn_of_version();
                self.look_around();
                return;
            }
            Heard::Event(event) => *event,
        };
        match event {
            Event::StasisStart {
                args,
                channel,
                replaces,
            } => {
                let args = args.into_iter().map(|arg| arg.into_exposed()).collect();
                self.started(*channel, args, replaces.map(|channel| channel.id));
            }
            Event::StasisEnd { channel } | Event::ChannelDestroyed { channel, .. } => {
                if let Some((id, leg)) = self.channels.get(&channel.id).copied() {
                    self.drive(id, Input::Left(leg));
                }
            }
            Event::ChannelDtmfReceived { digit, channel, .. } => {
                if let Some((id, Leg::Caller)) = self.channels.get(&channel.id).copied() {
                    self.drive(id, Input::Key(digit.key()));
                }
            }
            Event::BridgeDestroyed { bridge } => {
                if let Some((id, Leg::Media)) = self.channels.get(&bridge.id).copied() {
                    self.drive(id, Input::BridgeGone);
                }
            }
            _ => {}
        }
    }

    fn warn_of_version(&self) {
        let Some(version) = self.version else { return };
        let is_able = match self.options.media {
            Media::ChanWebsocket { .. } => version.has_chan_websocket(),
            Media::AudioSocket { .. } | Media::Rtp { .. } => version.major >= 18,
        };
        if !is_able {
            tracing::warn!("Asterisk {version} is too old for this wire: calls will have no sound");
        }
    }

    /// A channel is in the application.
    fn started(&mut self, channel: Channel, args: Vec<String>, replaces: Option<String>) {
        if self.names.is_ours(&channel.id) {
            match self.channels.get(&channel.id).copied() {
                Some((id, _)) => self.drive(id, Input::MediaEntered),
                // Its call ended while it was being made.
                None => self.sweep(&Request::hang_up(&channel.id, HangupReason::Normal)),
            }
            return;
        }
        match replaces.and_then(|old| self.channels.get(&old).copied().map(|known| (old, known))) {
            Some((old, (id, Leg::Caller))) => {
                tracing::info!("a caller's channel has another in its place");
                self.channels.remove(&old);
                self.channels.insert(channel.id.clone(), (id, Leg::Caller));
                self.drive(id, Input::Replaced(channel.id));
            }
            // Whoever has taken our own place wants to speak with the caller himself: but nobody is there to join them.
            Some((_, (_, Leg::Media))) => self.sweep(&Request::continue_in_dialplan(&channel.id, None, None, None)),
            None => self.arrived(&channel, &args),
        }
    }

    /// A caller is in the application.
    fn arrived(&mut self, channel: &Channel, args: &[String]) {
        if let Some((id, _)) = self.channels.get(&channel.id)
            && self.calls.get(id).is_some_and(|live| !live.call.has_let_go())
        {
            return;
        }
        let engine = self.phones.engine();
        let is_full = self.calls.len() >= MOST_CALLS || engine.live() >= engine.max_sessions();
        let now = self.clock.now();
        let call = if is_full {
            tracing::warn!("a call from Asterisk finds no room");
            Call::refused(&channel.id, self.options.afterwards)
        } else {
            let is_answered = channel.state == ChannelState::Up;
            Call::new(now, &channel.id, is_answered, self.options.afterwards)
        };
        let mut facts = Facts::of_call(&channel.id).with_numbers(
            channel.caller.number.expose(),
            channel.caller.name.expose(),
            channel.dialplan.exten.expose(),
        );
        for (number, arg) in (1..).zip(args) {
            facts.add_variable(&format!("ARG{number}"), arg);
        }
        for (name, value) in channel.variables.iter() {
            facts.add_variable(name, value);
        }
        let uuid = uuid();
        let name = self.names.of(&uuid);
        let id = self.next;
        self.next += 1;
        self.channels.insert(channel.id.clone(), (id, Leg::Caller));
        self.channels.insert(name.clone(), (id, Leg::Media));
        let live = Live {
            call,
            uuid,
            name,
            facts,
            notices: None,
            ticket: None,
            commands: None,
            port: None,
        };
        self.calls.insert(id, live);
        self.act(id);
    }

    fn notice(&mut self, id: u64, notice: Option<Notice>) {
        match notice {
            Some(Notice::Connected(session, commands)) => {
                let Some(live) = self.calls.get_mut(&id) else { return };
                tracing::info!(%session, channel = live.call.caller(), "a call from Asterisk");
                live.commands = Some(commands);
                self.drive(id, Input::Connected);
            }
            Some(Notice::Tool(call)) => match Wish::read(&call) {
                Ok(wish) => self.drive(id, Input::Wish(call.call_id, wish)),
                Err(text) => self.output(id, call.call_id, text),
            },
            Some(Notice::Over) | None => self.drive(id, Input::SessionOver),
        }
    }

    fn output(&self, id: u64, call_id: String, text: String) {
        self.command(
            id,
            Command::ToolOutput(ToolOutput {
                call_id,
                output: Pii::new(text),
                respond: true,
            }),
        );
    }

    fn command(&self, id: u64, command: Command) {
        if let Some(commands) = self.calls.get(&id).and_then(|live| live.commands.as_ref()) {
            // A session that is over needs none, and one that takes none is let go by its line.
            let _ = commands.try_send(command);
        }
    }

    fn drive(&mut self, id: u64, input: Input) {
        let now = self.clock.now();
        if let Some(live) = self.calls.get_mut(&id) {
            live.call.handle(now, input);
            self.act(id);
        }
    }

    /// Does what a call wants done.
    fn act(&mut self, id: u64) {
        while let Some(live) = self.calls.get_mut(&id)
            && let Some(action) = live.call.poll_action()
        {
            match action {
                Action::Ask(ask) => self.ask(id, ask),
                Action::Key(key) => {
                    if let Some(digit) = Digit::new(key) {
                        self.command(id, Command::Dtmf { digit });
                    }
                }
                Action::Output { call_id, text } => self.output(id, call_id, text),
                Action::Unannounce => live.ticket = None,
                Action::Finished { left_over } => self.finished(id, left_over),
            }
        }
    }

    fn finished(&mut self, id: u64, left_over: bool) {
        let Some(live) = self.calls.remove(&id) else { return };
        let caller = live.call.caller().to_owned();
        for name in [&live.name, &caller] {
            // The caller may have come again meanwhile.
            if self.channels.get(name).is_some_and(|(owner, _)| *owner == id) {
                self.channels.remove(name);
            }
        }
        self.recent.truncate(MOST_RECENT - 1);
        self.recent.push_front(caller);
        if left_over {
            self.sweep_at = Some(self.clock.now() + SWEEP_PAUSE);
        }
    }

    /// Asks Asterisk for what a call wants.
    fn ask(&mut self, id: u64, ask: Ask) {
        let Some(live) = self.calls.get(&id) else { return };
        let (caller, name) = (live.call.caller(), live.name.as_str());
        let context = self.options.transfer_context.as_str();
        let requests = match &ask {
            Ask::Variables => return self.ask_variables(id, ask),
            Ask::Media => return self.ask_media(id, ask),
            Ask::Exists(extension) => return self.ask_exists(id, extension.clone(), ask),
            Ask::Answer => vec![Request::answer(caller)],
            Ask::Bridge => vec![Request::create_bridge(Some(name), name)],
            Ask::Join => vec![Request::add_channel(name, &format!("{caller},{name}"))],
            Ask::JoinMedia => vec![Request::add_channel(name, name)],
            Ask::PartMedia => vec![Request::remove_channel(name, name)],
            Ask::MusicOn => vec![Request::start_music(caller, None)],
            Ask::MusicOff => vec![Request::stop_music(caller)],
            Ask::Keys(keys) => vec![Request::send_keys(caller, keys)],
            Ask::Continue(extension) => {
                let mut requests = Vec::new();
                if live.call.has_music() {
                    requests.push(Request::stop_music(caller));
                }
                requests.push(match extension {
                    Some(extension) => Request::continue_in_dialplan(caller, Some(context), Some(extension), Some(1)),
                    None => Request::continue_in_dialplan(caller, None, None, None),
                });
                requests
            }
            Ask::HangUp(Farewell::Normal) => vec![Request::hang_up(caller, HangupReason::Normal)],
            Ask::HangUp(Farewell::Congestion) => vec![Request::hang_up(caller, HangupReason::Congestion)],
            Ask::DropMedia => vec![Request::hang_up(name, HangupReason::Normal)],
            Ask::DropBridge => vec![Request::delete_bridge(name)],
        };
        let client = self.client.clone();
        self.jobs.spawn(async move {
            let mut result = Ok(());
            // The last one counts: those before it only make way.
            for request in &requests {
                result = client.ask(request).await.map(drop);
            }
            Done::Answered(id, ask, result.map(|()| Got::Nothing))
        });
    }

    fn ask_variables(&mut self, id: u64, ask: Ask) {
        let Some(live) = self.calls.get(&id) else { return };
        let caller = live.call.caller().to_owned();
        let wanted: Vec<String> = self.options.variables.iter().take(MOST_VARIABLES).cloned().collect();
        let client = self.client.clone();
        self.jobs.spawn(async move {
            let mut asked = JoinSet::new();
            for (place, name) in wanted.into_iter().enumerate() {
                let (client, request) = (client.clone(), Request::variable(&caller, &name));
                asked.spawn(async move {
                    let value = client.read::<VariableValue>(&request).await;
                    (place, name, value)
                });
            }
            // A variable that isn't set is no failure, and neither is one that can't be had: the call is more than that.
            let mut found: Vec<(usize, String, String)> = Vec::new();
            while let Some(answered) = asked.join_next().await {
                if let Ok((place, name, Ok(value))) = answered {
                    found.push((place, name, value.value.into_exposed()));
                }
            }
            found.sort_unstable();
            let found = found.into_iter().map(|(_, name, value)| (name, value)).collect();
            Done::Answered(id, ask, Ok(Got::Variables(found)))
        });
    }

    fn ask_exists(&mut self, id: u64, extension: String, ask: Ask) {
        let Some(live) = self.calls.get(&id) else { return };
        let context = &self.options.transfer_context;
        let function = format!("DIALPLAN_EXISTS({context},{extension},1)");
        let request = Request::variable(live.call.caller(), &function);
        let client = self.client.clone();
        self.jobs.spawn(async move {
            let result = match client.read::<VariableValue>(&request).await {
                Ok(value) if value.value.expose() == "0" => {
                    Err(Failure::Refused(format!("there is no extension {extension}")))
                }
                // An Asterisk without that function just tries.
                Ok(_) | Err(_) => Ok(Got::Nothing),
            };
            Done::Answered(id, ask, result)
        });
    }

    fn ask_media(&mut self, id: u64, ask: Ask) {
        match self.announce(id) {
            Ok(request) => {
                let client = self.client.clone();
                self.jobs.spawn(async move {
                    let channel = client.read::<Channel>(&request).await;
                    Done::Answered(id, ask, channel.map(|channel| Got::Channel(Box::new(channel))))
                });
            }
            Err(reason) => {
                let result = Err(Failure::Refused(reason.to_owned()));
                self.jobs.spawn(async move { Done::Answered(id, ask, result) });
            }
        }
    }

    /// Tells the wires of a call, and answers how its media channel is asked for.
    fn announce(&mut self, id: u64) -> Result<Request, &'static str> {
        let live = self.calls.get_mut(&id).ok_or("the call is over")?;
        let (key, external_host) = match &self.options.media {
            Media::AudioSocket { address } => (Key::Uuid(live.uuid), address.clone()),
            Media::ChanWebsocket { client } => {
                if client.is_none() && self.hooks.dial.is_none() {
                    return Err("nobody connects to channels that wait");
                }
                (Key::Channel(live.name.clone()), client.clone().unwrap_or_default())
            }
            Media::Rtp { host } => {
                let reserve = self.hooks.rtp.as_ref().ok_or("there is no RTP")?;
                let port = reserve().ok_or("all ports for RTP are taken")?;
                let number = port.port();
                live.port = Some(port);
                (Key::Port(number), host_and_port(host, number))
            }
        };
        let (control, notices) = mpsc::channel(MOST_NOTICES);
        let announcement = Announcement {
            facts: live.facts.clone(),
            tools: tools(),
            control,
        };
        let announced = self.phones.announced().announce(key, announcement);
        live.ticket = Some(announced.ok_or("too many calls are announced")?);
        live.notices = Some(notices);
        let knows = |able: fn(Version) -> bool| self.version.is_none_or(able);
        let json = self.options.json && knows(Version::chan_websocket_has_json);
        let media = match &self.options.media {
            Media::AudioSocket { .. } => AskedMedia::AudioSocket {
                host: &external_host,
                rate: match self.format {
                    Format::Slin(rate) if knows(Version::audiosocket_has_rates) => rate,
                    _ => Rate::Hz8000,
                },
                uuid: &live.uuid,
            },
            Media::ChanWebsocket { client: Some(_) } => AskedMedia::WebSocketToUs {
                client: &external_host,
                format: &self.format,
                json,
            },
            Media::ChanWebsocket { client: None } => AskedMedia::WebSocketToAsterisk {
                format: &self.format,
                json,
            },
            Media::Rtp { .. } => AskedMedia::Rtp {
                host: &external_host,
                format: &self.format,
            },
        };
        Ok(Request::external_media(&ExternalMedia {
            app: &self.options.app,
            channel_id: Some(&live.name),
            media,
            variables: &[],
        }))
    }

    /// The media channel is there: its wire is told what only Asterisk knows.
    fn media_made(&mut self, id: u64, channel: &Channel) -> Result<(), Failure> {
        let Some(live) = self.calls.get_mut(&id) else {
            return Ok(());
        };
        let missing = |name: &str| Failure::Refused(format!("Asterisk does not tell {name}"));
        if let Some(port) = &mut live.port {
            let value = |name: &str| channel.variables.value(name).ok_or_else(|| missing(name));
            let address = value("UNICASTRTP_LOCAL_ADDRESS")?.parse::<IpAddr>();
            let number = value("UNICASTRTP_LOCAL_PORT")?.parse::<u16>();
            let (Ok(address), Ok(number)) = (address, number) else {
                return Err(missing("UNICASTRTP_LOCAL_ADDRESS"));
            };
            // Where it listens everywhere, its packets tell where it is.
            if !address.is_unspecified() {
                port.set_peer(SocketAddr::new(address, number));
            }
        }
        if self.options.media == (Media::ChanWebsocket { client: None })
            && let Some(dial) = &self.hooks.dial
        {
            const NAME: &str = "MEDIA_WEBSOCKET_CONNECTION_ID";
            let connection = channel.variables.value(NAME).ok_or_else(|| missing(NAME))?;
            dial(Dial {
                url: self.client.media_url(connection),
                key: Key::Channel(live.name.clone()),
            });
        }
        Ok(())
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Answered(id, ask, result) => {
                let result = result.and_then(|got| match got {
                    Got::Nothing => Ok(()),
                    Got::Variables(variables) => {
                        if let Some(live) = self.calls.get_mut(&id) {
                            for (name, value) in &variables {
                                live.facts.add_variable(name, value);
                            }
                        }
                        Ok(())
                    }
                    Got::Channel(channel) => self.media_made(id, &channel),
                });
                tracing::debug!(
                    call = id,
                    "{ask:?}: {}",
                    result.as_ref().map_or_else(Failure::reason, |()| "done")
                );
                self.drive(id, Input::Answered(ask, result));
            }
            Done::Seen(calls, Ok((bridges, channels))) => self.seen(&calls, &bridges, &channels),
            // Without a connection that is no news; with the next one it is looked again.
            Done::Seen(_, Err(failure)) | Done::Swept(Err(failure)) => {
                tracing::debug!(
                    "what is left over in Asterisk can't be looked after: {}",
                    failure.reason()
                );
                self.sweep_at = Some(self.clock.now() + SWEEP_PAUSE);
            }
            Done::Swept(Ok(())) => {}
        }
    }

    /// Asks what there is in Asterisk.
    fn look_around(&mut self) {
        self.sweep_at = None;
        let client = self.client.clone();
        // Of one that is being set up, nothing may be there yet.
        let calls = self
            .calls
            .iter()
            .filter(|(_, live)| live.call.is_talking())
            .map(|(id, _)| *id)
            .collect();
        self.jobs.spawn(async move {
            let seen = async {
                // A channel that goes between the two leaves no trace in the second; the other way round it would.
                let bridges = client.read(&Request::bridges()).await?;
                let channels = client.read(&Request::channels()).await?;
                Ok((bridges, channels))
            };
            Done::Seen(calls, seen.await)
        });
    }

    /// Ends something that belongs to no call.
    fn sweep(&mut self, request: &Request) {
        let (client, request) = (self.client.clone(), request.clone());
        self.jobs.spawn(async move {
            let result = match client.ask(&request).await {
                Ok(_) | Err(Failure::Refused(_)) => Ok(()),
                Err(failure) => Err(failure),
            };
            Done::Swept(result)
        });
    }

    /// Compares what there is in Asterisk with what there should be.
    fn seen(&mut self, calls: &[u64], bridges: &[Bridge], channels: &[Channel]) {
        let (mut left_over, mut waiting) = (0, 0);
        for bridge in bridges {
            if self.names.is_ours(&bridge.id) && !self.channels.contains_key(&bridge.id) {
                left_over += 1;
                self.sweep(&Request::delete_bridge(&bridge.id));
            }
        }
        for channel in channels {
            if self.names.is_ours(&channel.id) {
                if !self.channels.contains_key(&channel.id) {
                    left_over += 1;
                    self.sweep(&Request::hang_up(&channel.id, HangupReason::Normal));
                }
            } else if self.is_waiting(channel) {
                // Who came while nobody listened, or whose server crashed, is answered now.
                waiting += 1;
                self.arrived(channel, &[]);
            }
        }
        if left_over + waiting > 0 {
            tracing::info!(
                "found in Asterisk: {left_over} left over, which are ended, and {waiting} callers waiting, who are answered"
            );
        }
        for id in calls {
            let Some(live) = self.calls.get(id).filter(|live| live.call.is_talking()) else {
                continue;
            };
            let bridge = bridges.iter().find(|bridge| bridge.id == live.name);
            let has = |name: &str| channels.iter().any(|channel| channel.id == name);
            let gone = match bridge {
                None => Some(Input::BridgeGone),
                Some(_) if !has(&live.name) => Some(Input::Left(Leg::Media)),
                Some(bridge) if !bridge.channels.iter().any(|name| name == live.call.caller()) => {
                    Some(Input::Left(Leg::Caller))
                }
                Some(_) => None,
            };
            // Without a caller nothing is to become of him.
            let caller_is_gone = !has(live.call.caller());
            if let Some(input) = gone {
                let input = if caller_is_gone {
                    Input::Left(Leg::Caller)
                } else {
                    input
                };
                self.drive(*id, input);
            }
        }
    }

    /// Whether a channel is in our application, and in no call.
    fn is_waiting(&self, channel: &Channel) -> bool {
        let app = channel.dialplan.app_data.expose().split(',').next().unwrap_or_default();
        channel.dialplan.app_name == "Stasis"
            && app == self.options.app
            && !self.channels.contains_key(&channel.id)
            && !self.recent.contains(&channel.id)
    }
}

/// `host:port`; an IPv6 address in brackets.
fn host_and_port(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}
