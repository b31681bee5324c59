//! Objects that many keys hold: TLS and Redis connections.

use super::{Key, Kind::*, Support};

keys! {
    /// A TLS object
    TLS {
        Works enabled:              Bool, "", "Turn on";
        Works cert_pem:             Pem,  "", "Certificate";
        Works key_pem:              Pem,  "", "Private key";
        Works server_ca_pem:        Pem,  "", "CA to verify the server (client role)";
        Works client_ca_pem:        Pem,  "", "CA to verify clients, turns on mutual TLS";
        Works insecure_skip_verify: Bool, "", "No verification";
        Works server_name:          Text, "", "SNI / expected host";
    }
}

keys! {
    /// `prefix` of a Redis engine or broker
    PREFIX {
        Works prefix: Text, "centrifugo", "Key and channel prefix";
    }
}

keys! {
    /// A Redis connection
    REDIS {
        Works address:              Texts,                     "redis://127.0.0.1:6379", "Shards; several = client-side consistent sharding";
        Works connect_timeout:      Duration,                  "1s",                     "Dial limit";
        Works io_timeout:           Duration,                  "4s",                     "Request limit";
        Works db:                   Int,                       "",                       "Database number";
        Works user:                 Text,                      "",                       "ACL user";
        Works password:             Text,                      "",                       "Password";
        Works client_name:          Text,                      "",                       "CLIENT SETNAME value";
        Works force_resp2:          Bool,                      "",                       "No RESP3";
        Works cluster_address:      Texts,                     "",                       "Cluster seeds; each list item = one shard, comma-separated";
        Works tls:                  Object(&[TLS]),            "",                       "TLS object";
        Works sentinel_address:     Texts,                     "",                       "Sentinels, item = shard";
        Works sentinel_user:        Text,                      "",                       "Sentinel user";
        Works sentinel_password:    Text,                      "",                       "Sentinel password";
        Works sentinel_master_name: Text,                      "",                       "Master name";
        Works sentinel_client_name: Text,                      "",                       "Client name on sentinel";
        Works sentinel_tls:         Object(&[TLS]),            "",                       "TLS object";
        Works replica_client:       Object(&[REPLICA_CLIENT]), "",                       "Read from replicas";
    }
}

keys! {
    /// `replica_client` of a Redis connection
    REPLICA_CLIENT {
        Works enabled: Bool, "", "On/off";
    }
}
