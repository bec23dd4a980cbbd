//! The scripts of the store, and how one is asked for.
//!
//! Their texts are in `protocol/scripts`, because workers of other languages send them too.

use std::sync::LazyLock;

use redis::Cmd;

/// A script as the server keeps it: under the SHA-1 of its text.
pub(super) struct Script {
    text: &'static str,
    script: redis::Script,
}

macro_rules! scripts {
    ($($name:ident: $file:literal),* $(,)?) => {$(
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
                include_str!("../../../../protocol/scripts/common.lua"),
                include_str!(concat!("../../../../protocol/scripts/", $file, ".lua")),
            );
            Script { text, script: redis::Script::new(text) }
        });
    )*};
}

scripts!(
    APPEND: "append",
    CLAIM: "claim",
    CREATE: "create",
    DELETE: "delete",
    DISOWN: "disown",
    ENDED_RUNS: "ended_runs",
    EXPIRE: "expire",
    FILL_RUNS: "fill_runs",
    FIND_RUNS: "find_runs",
    FINISH: "finish",
    LEASES: "leases",
    LEAVE: "leave",
    LOG_APPEND: "log_append",
    OPEN_RUNS: "open_runs",
    OWN: "own",
    POST: "post",
    PRESENCE: "presence",
    PUT: "put",
    RENEW: "renew",
    REVOKE: "revoke",
    WORKERS: "workers",
);

/// One call of a script.
pub(super) struct Call {
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn new(script: &'static Script, key: String) -> Call {
        Call { script, keys: vec![key], args: Vec::new() }
    }

    pub(super) fn key(mut self, key: String) -> Call {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, arg: impl Into<Vec<u8>>) -> Call {
        self.push(arg);
        self
    }

    pub(super) fn number(self, number: impl ToString) -> Call {
        self.arg(number.to_string())
    }

    pub(super) fn push(&mut self, arg: impl Into<Vec<u8>>) {
        self.args.push(arg.into());
    }

    /// The call by the script's SHA-1, which the server may not know.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", self.script.script.get_hash())
    }

    /// The call by the script's text, after which the server knows it.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys);
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }
}
