//! The flags that choose a wire, or say one that is not in `wires.toml`.

use anyhow::{Result, bail};
use clap::Args;

use super::template::Template;
use super::{Answer, Wire};

/// What the server speaks.
#[derive(Args, Debug)]
#[command(next_help_heading = "Wire")]
pub(crate) struct WireFlags {
    /// Wire that the server speaks: centrifugo or golem or socket.io or throng (throng.v1, with
    /// positions and recovery)
    #[arg(long, global = true, value_name = "NAME", default_value = "golem")]
    #[arg(value_parser = parse_wire)]
    wire: Wire,

    /// Custom wire: the message that joins a room, where {room} is its name; empty if connecting is
    /// enough
    #[arg(long, global = true, value_name = "TEXT", conflicts_with = "wire")]
    #[arg(requires_all = ["publish", "delivery_prefix"])]
    join: Option<Template>,

    /// Custom wire: the message that publishes, where {payload} is a JSON string with its quotes
    #[arg(long, global = true, value_name = "TEXT", requires_all = ["join", "delivery_prefix"])]
    publish: Option<Template>,

    /// Custom wire: the text before the payload of each delivery; may contain {room}
    #[arg(long, global = true, value_name = "TEXT", requires_all = ["join", "publish"])]
    delivery_prefix: Option<Template>,

    /// Custom wire: the text after the payload of each delivery
    #[arg(long, global = true, value_name = "TEXT", requires = "join")]
    delivery_suffix: Option<Template>,

    /// Custom wire: the message that leaves a room, if there is one
    #[arg(long, global = true, value_name = "TEXT", requires = "join")]
    leave: Option<Template>,

    /// Custom wire: the beginning of the message after which a connection may join
    #[arg(long, global = true, value_name = "TEXT", requires = "join")]
    join_after: Option<String>,

    /// Custom wire: the answer to messages that begin with a text; may be repeated
    #[arg(long, global = true, num_args = 2, value_names = ["PREFIX", "TEXT"], requires = "join")]
    answer: Vec<String>,

    /// Custom wire: the beginning of error messages; may be repeated
    #[arg(long, global = true, value_name = "TEXT", requires = "join")]
    error_prefix: Vec<String>,

    /// Value of Sec-WebSocket-Protocol to request
    #[arg(long, global = true, value_name = "NAME")]
    sub_protocol: Option<String>,
}

impl WireFlags {
    /// Returns the wire that the flags say.
    pub(crate) fn wire(self) -> Result<Wire> {
        let (Some(join), Some(publish), Some(delivery_prefix)) =
            (self.join, self.publish, self.delivery_prefix)
        else {
            let sub_protocol = self.sub_protocol.or(self.wire.sub_protocol);
            return Ok(Wire {
                sub_protocol,
                ..self.wire
            });
        };
        let wire = Wire {
            name: "template".to_owned(),
            sub_protocol: self.sub_protocol,
            answers: answers(&self.answer),
            join_after: self.join_after,
            join,
            publish,
            leave: self.leave.unwrap_or_default(),
            delivery_prefix,
            delivery_suffix: self.delivery_suffix.unwrap_or_default(),
            error_prefixes: self.error_prefix,
            ..Wire::default()
        };
        match wire.check() {
            Ok(()) => Ok(wire),
            Err(reason) => bail!("conflicting flags: {reason}"),
        }
    }
}

fn answers(words: &[String]) -> Vec<Answer> {
    let answer = |[to, text]: &[String; 2]| Answer {
        to: to.clone(),
        text: text.clone(),
    };
    words.as_chunks().0.iter().map(answer).collect()
}

fn parse_wire(name: &str) -> Result<Wire, String> {
    let unknown = || format!("there are {}", Wire::names().join(", "));
    Wire::named(name).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::super::Meaning;
    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        wire: WireFlags,
    }

    fn wire(flags: &[&str]) -> Result<Wire, clap::Error> {
        let flags = Flags::try_parse_from([&["loadtest"], flags].concat())?;
        Ok(flags.wire.wire().unwrap())
    }

    #[test]
    fn golem_is_spoken_unless_another_wire_is_named() {
        assert_eq!(wire(&[]).unwrap().name, "golem");
        assert_eq!(wire(&["--wire", "socket.io"]).unwrap().name, "socket.io");
        assert!(wire(&["--wire", "morse"]).is_err());
    }

    #[test]
    fn all_of_a_wire_can_be_said_with_flags() {
        let wire = wire(&[
            "--join",
            "SUB {room}",
            "--publish",
            "PUB {room} {payload}",
            "--leave",
            "UNSUB {room}",
            "--delivery-prefix",
            "FROM {room} ",
            "--join-after",
            "HELLO",
            "--answer",
            "PING",
            "PONG",
            "--answer",
            "WHO",
            "ME",
            "--error-prefix",
            "ERR",
            "--sub-protocol",
            "chat.v2",
        ])
        .unwrap();
        assert_eq!(wire.sub_protocol.as_deref(), Some("chat.v2"));
        assert_eq!(wire.join.message("tea").unwrap(), b"SUB tea");
        assert_eq!(wire.leave.message("tea").unwrap(), b"UNSUB tea");
        assert_eq!(wire.join_after.as_deref(), Some("HELLO"));
        assert_eq!(wire.meaning(b"PING 1"), Meaning::Answer("PONG"));
        assert_eq!(wire.meaning(b"WHO"), Meaning::Answer("ME"));
        assert_eq!(wire.meaning(b"ERR no"), Meaning::Complaint);
        assert_eq!(wire.meaning(b"FROM tea cup"), Meaning::Misdelivery);
    }

    #[test]
    fn the_help_names_every_wire() {
        let help = Flags::command().render_long_help().to_string();
        assert!(help.contains(&Wire::names().join(" or ")), "{help}");
    }

    #[test]
    fn half_a_wire_is_refused() {
        for flags in [
            &["--join", "SUB"][..],
            &["--publish", "{payload}"],
            &["--leave", "UNSUB"],
            &["--answer", "PING"],
            &[
                "--wire",
                "golem",
                "--join",
                "",
                "--publish",
                "{payload}",
                "--delivery-prefix",
                "",
            ],
        ] {
            assert!(wire(flags).is_err(), "{flags:?}");
        }
    }
}
