//! Keys of metrics, traces and reports.

use super::{Key, Kind::*, Support};

keys! {
    /// `prometheus`
    PROMETHEUS {
        Works enabled:                          Bool, "",         "Metrics endpoint";
        Works handler_prefix:                   Text, "/metrics", "Path";
        Works instrument_http_handlers:         Bool, "",         "Count HTTP statuses";
        Works recovered_publications_histogram: Bool, "",         "Extra histogram";
        Works native_histograms:                Bool, "",         "Native histograms, experimental";
    }
}

keys! {
    /// `opentelemetry`
    OPENTELEMETRY {
        Works enabled:               Bool, "", "OTLP/HTTP traces (OTEL_* env)";
        Works api:                   Bool, "", "Spans for server API";
        Works consuming:             Bool, "", "Spans for consumers";
        Works google_cloud_adc_auth: Bool, "", "Google ADC for the exporter";
    }
}

keys! {
    /// `graphite`
    GRAPHITE {
        Works enabled:  Bool,     "",           "Push metrics to Graphite";
        Works host:     Text,     "localhost",  "Host";
        Works port:     Int,      "2003",       "TCP port";
        Works prefix:   Text,     "centrifugo", "Name prefix";
        Works interval: Duration, "10s",        "Push period";
        Works tags:     Bool,     "",           "Tagged series";
    }
}

keys! {
    /// `usage_stats`
    USAGE_STATS {
        Works disabled: Bool, "", "No anonymous usage report (ringcast never sends one)";
    }
}
