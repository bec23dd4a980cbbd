//! What a server says of itself: which life of it this is, and whether it keeps what it is told.

use gristmill_protocol::Digest;
use redis::Value;

use super::super::{StateError, StoreId};

/// The oldest version whose scripts and streams do what is needed.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What `INFO` answers, and the setting that it leaves out.
#[derive(Debug)]
pub(super) struct Server {
    info: String,
    /// Whether the operating system alone decides when the append-only file reaches the disk.
    never_synced: bool,
}

impl Server {
    /// `fsync` is the answer to `CONFIG GET appendfsync`, where the server tells.
    pub(super) fn new(info: &Value, fsync: Option<Value>) -> Server {
        let info = match info {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        let setting = match fsync {
            Some(Value::Array(values)) => values.into_iter().next_back(),
            Some(Value::Map(pairs)) => pairs.into_iter().next_back().map(|(_, value)| value),
            _ => None,
        };
        Server { info, never_synced: setting == Some(Value::BulkString(b"no".to_vec())) }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    /// This life of the store: `run_id` is new at every start of the server.
    pub(super) fn store(&self) -> Option<StoreId> {
        let hash = Digest::of(self.field("run_id")?.as_bytes());
        hash.as_bytes().first_chunk().map(|bytes| StoreId(u64::from_be_bytes(*bytes)))
    }

    /// Why it can't be asked just now, though it will be fine later or elsewhere.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        match (self.field("loading"), self.field("role")) {
            (Some("1"), _) => Some("the server is loading its data"),
            // A replica is behind, and what it says of leases may be over.
            (_, Some("slave")) => Some("the server is a replica"),
            _ => None,
        }
    }

    /// Refuses a server that can't do what is needed, or that may lose what it was told.
    pub(super) fn check(&self, allow_unsafe: bool) -> Result<(), StateError> {
        let version = self.field("redis_version").unwrap_or("unknown");
        let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
        let known = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if known < VERSION_MIN {
            let (major, minor) = VERSION_MIN;
            return Err(unsuitable(
                format!("its version is {version}"),
                &format!("run Redis {major}.{minor} or newer"),
            ));
        }
        if self.field("cluster_enabled") == Some("1") {
            return Err(unsuitable("it is a Redis Cluster".to_owned(), "run a single Redis server"));
        }
        let mut complaints = Vec::new();
        if self.field("aof_enabled") != Some("1") {
            complaints.push(("its append-only file is off".to_owned(), "set `appendonly yes`"));
        }
        if self.never_synced {
            // What is said again after a rollback goes back 5 s; the operating system may lose 30.
            complaints.push(("its append-only file is never synced".to_owned(), "set `appendfsync everysec`"));
        }
        let policy = self.field("maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            complaints.push((format!("its maxmemory-policy is `{policy}`"), "set `maxmemory-policy noeviction`"));
        }
        if complaints.is_empty() {
            return Ok(());
        }
        let (found, advice): (Vec<String>, Vec<&str>) = complaints.into_iter().unzip();
        let (found, advice) = (found.join(" and "), advice.join(" and "));
        if allow_unsafe {
            tracing::warn!(found, advice, "the Redis server may lose what it is told");
            return Ok(());
        }
        Err(unsuitable(found, &format!("{advice} in `redis.conf`, or allow an unsafe store")))
    }
}

fn unsuitable(found: String, advice: &str) -> StateError {
    StateError::Unsuitable { what: format!("the Redis server ({found})"), advice: advice.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(info: &str, allow_unsafe: bool) -> String {
        let server = Server::new(&Value::BulkString(info.replace(' ', "\r\n").into_bytes()), None);
        server.check(allow_unsafe).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn a_server_that_may_lose_data_is_refused_with_what_to_change() {
        let good = "redis_version:7.0.15 aof_enabled:1 maxmemory_policy:noeviction";
        assert_eq!(check(good, false), "fine");
        assert_eq!(
            check("redis_version:7.0.15 aof_enabled:0 maxmemory_policy:allkeys-lru", false),
            "the Redis server (its append-only file is off and its maxmemory-policy is `allkeys-lru`) can't be the \
             store: set `appendonly yes` and set `maxmemory-policy noeviction` in `redis.conf`, or allow an unsafe store"
        );
        assert_eq!(check("redis_version:6.2.0 aof_enabled:0 maxmemory_policy:noeviction", true), "fine");
        assert_eq!(
            check("redis_version:6.0.9 aof_enabled:1 maxmemory_policy:noeviction", true),
            "the Redis server (its version is 6.0.9) can't be the store: run Redis 6.2 or newer"
        );
    }
}
