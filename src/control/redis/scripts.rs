//! What Redis does in one step. The effects equal those of Centrifugo's scripts, key by key, so that nodes of both share streams
//! and presence. Source: behaviour §10.1.

use super::connection::Connection;
use ringcast_proto::redis::CommandWriter;
use std::io;
use std::sync::LazyLock;

/// A script and the name under which Redis knows it once it was loaded.
pub struct Script {
    source: &'static str,
    digest: LazyLock<String>,
}

impl Script {
    const fn new(source: &'static str, digest: fn() -> String) -> Self {
        Self { source, digest: LazyLock::new(digest) }
    }

    /// Adds the command that makes it known.
    pub fn write_load(&self, out: &mut Vec<u8>) {
        CommandWriter::new(out).command(&[b"SCRIPT", b"LOAD", self.source.as_bytes()]);
    }

    /// For `EVALSHA`.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// Makes all of them known.
pub async fn load(connection: &mut Connection) -> io::Result<()> {
    for script in ALL {
        connection.ask(&[&[b"SCRIPT", b"LOAD", script.source.as_bytes()]]).await?;
    }
    Ok(())
}

/// SHA-1 in hexadecimal.
fn digest(source: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $source:expr;)*) => {
        $($(#[$doc])* pub static $name: Script = Script::new($source, || digest($source));)*
        /// All, to be loaded on each new connection.
        pub static ALL: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    /// Keys: stream, meta, and the result if it has a ttl. Words: publication, size, ttl, channel, meta ttl, epoch if new, result ttl, delta, version, its
    /// epoch. Answer: top, epoch, 0 published or 1 known by its idempotency key or 2 version not higher.
    ADD_TO_STREAM = r"
local pub, size, ttl, to, meta_ttl, fresh, result_ttl, delta, version, version_epoch = unpack(ARGV)
if result_ttl ~= '' then
  local known = redis.call('HMGET', KEYS[3], 'e', 's')
  if known[1] then return {known[2], known[1], 1} end
end
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
  epoch = fresh
  redis.call('HSET', KEYS[2], 'e', epoch)
end
if version ~= '0' then
  local last = redis.call('HMGET', KEYS[2], 'v', 've', 's')
  local comparable = version_epoch == '' or version_epoch == last[2]
  if last[1] and comparable and tonumber(last[1]) >= tonumber(version) then
    return {last[3] or 0, epoch, 2}
  end
  redis.call('HSET', KEYS[2], 'v', version, 've', version_epoch)
end
local top = redis.call('HINCRBY', KEYS[2], 's', 1)
if meta_ttl ~= '0' then redis.call('EXPIRE', KEYS[2], meta_ttl) end
local before = ''
if top == 1 then
  -- The meta may have been evicted alone: what the stream held belongs to an older epoch.
  redis.call('DEL', KEYS[1])
elseif delta == '1' then
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if last then
    for i = 1, #last[2], 2 do
      if last[2][i] == 'd' then before = last[2][i + 1] end
    end
  end
end
redis.call('XADD', KEYS[1], 'MAXLEN', size, top, 'd', pub)
redis.call('EXPIRE', KEYS[1], ttl)
local head = top .. ':' .. epoch
if delta == '1' then
  redis.call('PUBLISH', to, '__d1:' .. head .. ':' .. #before .. ':' .. before .. ':' .. #pub .. ':' .. pub)
else
  redis.call('PUBLISH', to, '__p1:' .. head .. '__' .. pub)
end
if result_ttl ~= '' then
  redis.call('HSET', KEYS[3], 'e', epoch, 's', top)
  redis.call('EXPIRE', KEYS[3], result_ttl)
end
return {top, epoch, 0}";

    /// As `ADD_TO_STREAM`, with a list; `size` is the index of the last entry that is kept, and versions are not looked at.
    ADD_TO_LIST = r"
local pub, last_kept, ttl, to, meta_ttl, fresh, result_ttl, delta = unpack(ARGV)
if result_ttl ~= '' then
  local known = redis.call('HMGET', KEYS[3], 'e', 's')
  if known[1] then return {known[2], known[1], 1} end
end
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
  epoch = fresh
  redis.call('HSET', KEYS[2], 'e', epoch)
end
local top = redis.call('HINCRBY', KEYS[2], 's', 1)
if meta_ttl ~= '0' then redis.call('EXPIRE', KEYS[2], meta_ttl) end
local before = delta == '1' and redis.call('LINDEX', KEYS[1], 0) or ''
local head = top .. ':' .. epoch
local entry = '__p1:' .. head .. '__' .. pub
redis.call('LPUSH', KEYS[1], entry)
redis.call('LTRIM', KEYS[1], 0, last_kept)
redis.call('EXPIRE', KEYS[1], ttl)
if delta == '1' then
  redis.call('PUBLISH', to, '__d1:' .. head .. ':' .. #before .. ':' .. before .. ':' .. #pub .. ':' .. pub)
else
  redis.call('PUBLISH', to, entry)
end
if result_ttl ~= '' then
  redis.call('HSET', KEYS[3], 'e', epoch, 's', top)
  redis.call('EXPIRE', KEYS[3], result_ttl)
end
return {top, epoch, 0}";

    /// Keys: result. Words: publication, channel, result ttl. Answer: 0 published, 1 known by its idempotency key.
    PUBLISH_ONCE = r"
if redis.call('HGET', KEYS[1], 'e') then return 1 end
redis.call('PUBLISH', ARGV[2], ARGV[1])
redis.call('HSET', KEYS[1], 'e', '')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 0";

    /// Keys: stream, meta. Words: 1 for publications or 0 for the top alone, from where or 0, how many or 0, 1 for newest first,
    /// meta ttl, epoch if new. Answer: top, epoch, entries.
    READ_STREAM = r"
local with, from, limit, reverse, meta_ttl, fresh = unpack(ARGV)
local meta = redis.call('HMGET', KEYS[2], 'e', 's')
local epoch, top = meta[1], meta[2] or 0
if not epoch then
  epoch, top = fresh, 0
  redis.call('HSET', KEYS[2], 'e', epoch)
end
if meta_ttl ~= '0' then redis.call('EXPIRE', KEYS[2], meta_ttl) end
if with == '0' then return {top, epoch} end
local ask = {'XRANGE', KEYS[1], from, '+'}
if reverse == '1' then ask = {'XREVRANGE', KEYS[1], from == '0' and top or from, '-'} end
if limit ~= '0' then
  ask[5] = 'COUNT'
  ask[6] = limit
end
return {top, epoch, redis.call(unpack(ask))}";

    /// Keys: list, meta. Words: 1 for publications or 0 for the top alone, meta ttl, epoch if new. Answer: top, epoch, entries, newest
    /// first.
    READ_LIST = r"
local meta = redis.call('HMGET', KEYS[2], 'e', 's')
local epoch, top = meta[1], meta[2] or 0
if not epoch then
  epoch, top = ARGV[3], 0
  redis.call('HSET', KEYS[2], 'e', epoch)
end
if ARGV[2] ~= '0' then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
if ARGV[1] == '0' then return {top, epoch} end
return {top, epoch, redis.call('LRANGE', KEYS[1], 0, -1)}";

    /// Keys: expiry of clients, clients, expiry of users, users. Words: ttl, time of expiry, client, info, user, 1 to map users, 1 for
    /// expiry of the fields themselves.
    ADD_PRESENCE = r"
local ttl, until_then, client, info, user, map_users, field_ttl = unpack(ARGV)
local function keep(members, fields, name)
  redis.call('EXPIRE', fields, ttl)
  if field_ttl == '1' then
    redis.call('HEXPIRE', fields, ttl, 'FIELDS', 1, name)
  else
    redis.call('ZADD', members, until_then, name)
    redis.call('EXPIRE', members, ttl)
  end
end
local is_new = map_users == '1' and redis.call('HEXISTS', KEYS[2], client) == 0
redis.call('HSET', KEYS[2], client, info)
keep(KEYS[1], KEYS[2], client)
if map_users == '1' then
  if is_new then redis.call('HINCRBY', KEYS[4], user, 1) end
  keep(KEYS[3], KEYS[4], user)
end";

    /// Keys as `ADD_PRESENCE`. Words: client, user, 1 to map users, 1 for expiry of the fields themselves.
    REMOVE_PRESENCE = r"
local client, user, map_users, field_ttl = unpack(ARGV)
local was_there = redis.call('HDEL', KEYS[2], client) == 1
if field_ttl == '0' then redis.call('ZREM', KEYS[1], client) end
if map_users == '1' and was_there and redis.call('HINCRBY', KEYS[4], user, -1) <= 0 then
  if field_ttl == '0' then redis.call('ZREM', KEYS[3], user) end
  redis.call('HDEL', KEYS[4], user)
end";

    /// Keys as `ADD_PRESENCE`. Words: now, 1 for expiry of the fields themselves. Answer: connections, users.
    COUNT_PRESENCE = r"
local function forget(members, fields)
  local gone = redis.call('ZRANGEBYSCORE', members, 0, ARGV[1])
  for _, name in ipairs(gone) do redis.call('HDEL', fields, name) end
  if #gone > 0 then redis.call('ZREMRANGEBYSCORE', members, 0, ARGV[1]) end
end
if ARGV[2] == '0' then
  forget(KEYS[1], KEYS[2])
  forget(KEYS[3], KEYS[4])
end
return {redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[4])}";

    /// Keys: expiry of clients, clients. Words: now, 1 for expiry of the fields themselves. Answer: clients and infos.
    READ_PRESENCE = r"
if ARGV[2] == '0' then
  local gone = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1])
  for _, client in ipairs(gone) do redis.call('HDEL', KEYS[2], client) end
  if #gone > 0 then redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1]) end
end
return redis.call('HGETALL', KEYS[2])";

    /// As `COUNT_PRESENCE`, without writing. Answer: nothing where entries have expired.
    COUNT_PRESENCE_AT_REPLICA = r"
local function has_expired(members) return redis.call('ZCOUNT', members, 0, ARGV[1]) > 0 end
if ARGV[2] == '0' and (has_expired(KEYS[1]) or has_expired(KEYS[3])) then return false end
return {redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[4])}";

    /// As `READ_PRESENCE`, without writing. Answer: nothing where entries have expired.
    READ_PRESENCE_AT_REPLICA = r"
if ARGV[2] == '0' and redis.call('ZCOUNT', KEYS[1], 0, ARGV[1]) > 0 then return false end
return redis.call('HGETALL', KEYS[2])";
}
