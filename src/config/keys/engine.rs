//! Keys of engines and brokers: where channels live when several nodes share them.

use super::pro::PRO_REDIS;
use super::shared::{PREFIX, REDIS, TLS};
use super::{Key, Kind::*, Support};

keys! {
    /// `engine`
    ENGINE {
        Works type:  Text,                                                               "memory", "Memory or redis (broker and presence)";
        Works redis: Object(&[PREFIX, REDIS, HISTORY_LISTS, REDIS_PRESENCE, PRO_REDIS]), "",       "Redis engine";
    }
}

keys! {
    /// `history_use_lists` of a Redis engine or broker
    HISTORY_LISTS {
        Works history_use_lists: Bool, "", "History in lists: no pagination, idempotency, reverse";
    }
}

keys! {
    /// Presence keys of a Redis engine or presence manager
    REDIS_PRESENCE {
        Works presence_ttl:               Duration, "60s", "Life of a presence entry";
        Works presence_hash_field_ttl:    Bool,     "",    "Per-field expiry, Redis 7.4+";
        Works presence_user_mapping:      Bool,     "",    "Extra user hash that makes stats cheap";
        Works presence_read_from_replica: Bool,     "",    "Read presence at replicas of sentinels or a cluster; needs replica_client";
    }
}

keys! {
    /// `broker`
    BROKER {
        Works enabled:   Bool,                                               "",       "Use this broker instead of the engine's";
        Works type:      Text,                                               "memory", "Memory, redis, nats, redisnats, postgres";
        Later redis:     Object(&[PREFIX, REDIS, HISTORY_LISTS, PRO_REDIS]), "",       "Redis broker";
        Works nats:      Object(&[NATS]),                                    "",       "NATS broker";
        Later postgres:  Object(&[POSTGRES]),                                "",       "PostgreSQL broker";
        Later redisnats: Object(&[REDISNATS]),                               "",       "History in Redis, messages over NATS";
    }
}

keys! {
    /// `broker.redisnats`
    REDISNATS {
        Works redis: Object(&[PREFIX, REDIS, HISTORY_LISTS, PRO_REDIS]), "", "Redis part";
        Works nats:  Object(&[NATS]),                                    "", "NATS part";
    }
}

keys! {
    /// `broker.nats`
    NATS {
        Works prefix:          Text,                "centrifugo",            "Prefix of NATS subjects";
        Works url:             Text,                "nats://localhost:4222", "Server address(es)";
        Works dial_timeout:    Duration,            "1s",                    "Connect limit";
        Works write_timeout:   Duration,            "1s",                    "Flush limit";
        Works tls:             Object(&[TLS]),      "",                      "TLS object";
        Works allow_wildcards: Bool,                "",                      "Let clients use NATS wildcards";
        Works raw_mode:        Object(&[RAW_MODE]), "",                      "Payloads without an envelope";
    }
}

keys! {
    /// `broker.nats.raw_mode`
    RAW_MODE {
        Works enabled:              Bool, "", "Plain payloads, no Centrifugo envelope";
        Works channel_replacements: Map,  "", "Character substitutions channel → subject";
        Works prefix:               Text, "", "Prefix in raw mode";
    }
}

keys! {
    /// PostgreSQL keys of a broker
    POSTGRES {
        Works dsn:                      Text,              "",    "Connection string";
        Works tls:                      Object(&[TLS]),    "",    "TLS object";
        Works pool_size:                Int,               "16",  "Pool connections";
        Works num_shards:               Int,               "8",   "Delivery shards";
        Works cleanup_interval:         Duration,          "1m",  "Cleanup worker period";
        Works idempotent_result_ttl:    Duration,          "5m",  "Life of idempotency rows";
        Works binary_data:              Bool,              "",    "BYTEA payload columns";
        Works stream_retention:         Duration,          "24h", "Floor for meta retention";
        Works use_notify:               Bool,              "",    "LISTEN/NOTIFY wake-up";
        Works notify_dsn:               Text,              "",    "Direct DSN for LISTEN";
        Works table_prefix:             Text,              "cf",  "Table name prefix";
        Works skip_schema_init:         Bool,              "",    "Do not create the schema";
        Works partition_lookahead_days: Int,               "2",   "Daily partitions made ahead";
        Works partition_retention_days: Int,               "7",   "Days before a partition is dropped";
        Works outbox:                   Object(&[OUTBOX]), "",    "How the outbox is read";
    }
}

keys! {
    /// `outbox` of a PostgreSQL broker
    OUTBOX {
        Works poll_interval: Duration, "100ms", "Idle poll period";
        Works batch_size:    Int,      "1000",  "Rows per batch";
    }
}

keys! {
    /// `presence_manager`
    PRESENCE_MANAGER {
        Works enabled: Bool,                                     "",       "Use this presence manager instead of the engine's";
        Works type:    Text,                                     "memory", "Memory or redis";
        Works redis:   Object(&[PREFIX, REDIS, REDIS_PRESENCE]), "",       "Redis presence manager";
    }
}

keys! {
    /// `map_broker`
    MAP_BROKER {
        Works type:     Text,                                "memory", "Memory, redis, postgres";
        Works redis:    Object(&[PREFIX, REDIS, MAP_REDIS]), "",       "Redis map broker";
        Works postgres: Object(&[POSTGRES, MAP_POSTGRES]),   "",       "PostgreSQL map broker";
    }
}

keys! {
    /// `map_broker.redis`, beside the keys of a Redis connection
    MAP_REDIS {
        Works cleanup_interval:      Duration, "1s",  "Expired key sweep, -1 off";
        Works cleanup_batch_size:    Int,      "100", "Keys per sweep and channel";
        Works idempotent_result_ttl: Duration, "5m",  "Life of idempotency results";
        Works skip_pub_sub:          Bool,     "",    "State only, no publishing";
    }
}

keys! {
    /// `map_broker.postgres`, beside the keys of a PostgreSQL broker
    MAP_POSTGRES {
        Works ttl_check_interval: Duration, "1s", "Expiry check period";
    }
}

keys! {
    /// `controller`
    CONTROLLER {
        Works enabled:  Bool,                           "", "Own channel for node control messages";
        Works type:     Text,                           "", "Postgres (redis, nats in PRO)";
        Works postgres: Object(&[CONTROLLER_POSTGRES]), "", "PostgreSQL controller";
    }
}

keys! {
    /// `controller.postgres`
    CONTROLLER_POSTGRES {
        Works dsn:                        Text,           "",     "Connection string";
        Works tls:                        Object(&[TLS]), "",     "TLS of the connection";
        Works pool_size:                  Int,            "8",    "Pool connections";
        Works num_shards:                 Int,            "1",    "Delivery shards";
        Works table_prefix:               Text,           "cf",   "Table name prefix";
        Works poll_interval:              Duration,       "50ms", "Idle poll period";
        Works use_notify:                 Bool,           "",     "LISTEN/NOTIFY wake-up";
        Works notify_dsn:                 Text,           "",     "Direct DSN for LISTEN";
        Works partition_retention_days:   Int,            "1",    "Days before a partition is dropped";
        Works partition_lookahead_days:   Int,            "2",    "Daily partitions made ahead";
        Works partition_cleanup_interval: Duration,       "1m",   "Partition worker period";
        Works batch_size:                 Int,            "1000", "Rows per poll";
        Works skip_schema_init:           Bool,           "",     "Do not create the schema";
    }
}
