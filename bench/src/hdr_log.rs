//! Latencies of every window as an HdrHistogram interval log (V2, compressed), which the usual viewers read.
//!
//! Format: <https://github.com/HdrHistogram/HdrHistogram>, "HistogramLogWriter". Values are microseconds; the kind of latency is the
//! tag of its line.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use crate::failure::Failure;
use crate::histogram::Latency;
use crate::options::Common;

/// The log of a run, or nothing where none is asked for.
pub struct HdrLog(Option<Open>);

struct Open {
    file: File,
    started: Instant,
}

impl HdrLog {
    /// Creates the file of `--hdr-log` and writes its head.
    pub fn create(common: &Common) -> Result<Self, Failure> {
        let Some(path) = &common.hdr_log else {
            return Ok(Self(None));
        };
        let create = || {
            let mut file = File::create(path)?;
            write_head(&mut file, SystemTime::now())?;
            Ok(Open { file, started: Instant::now() })
        };
        create().map(|open| Self(Some(open))).map_err(Failure::system("writing the file of --hdr-log"))
    }

    /// Writes the latencies of a window that took `length` and ends now.
    pub fn write(&mut self, latencies: &[(&'static str, Latency)], length: Duration) -> Result<(), Failure> {
        let Some(Open { file, started }) = &mut self.0 else {
            return Ok(());
        };
        let start = started.elapsed().saturating_sub(length);
        let mut written = latencies.iter().filter(|(_, latency)| !latency.histogram().is_empty());
        let written = written.try_for_each(|(kind, latency)| write_interval(file, kind, latency, start, length));
        written.map_err(Failure::system("writing the file of --hdr-log"))
    }
}

fn write_head(out: &mut impl Write, now: SystemTime) -> io::Result<()> {
    writeln!(out, "#[Histogram log format version 1.3]")?;
    let mut serializer = V2DeflateSerializer::new();
    IntervalLogWriterBuilder::new().with_start_time(now).begin_log_with(out, &mut serializer)?;
    writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")
}

fn write_interval(
    out: &mut impl Write,
    kind: &str,
    latency: &Latency,
    start: Duration,
    length: Duration,
) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new().begin_log_with(out, &mut serializer)?;
    let written = writer.write_histogram(latency.histogram(), start, length, Tag::new(kind));
    written.map_err(|error| match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn log_is_read_back_as_it_was_written() {
        let mut latency = Latency::new();
        [10_000, 20_000, 3_000_000].into_iter().for_each(|nanos| latency.record_ns(nanos));
        let (start, length) = (Duration::from_millis(1500), Duration::from_secs(2));
        let mut log = Vec::new();
        write_head(&mut log, SystemTime::UNIX_EPOCH).expect("a vector takes everything");
        write_interval(&mut log, "delivery", &latency, start, length).expect("a vector takes everything");

        let entries: Vec<_> = IntervalLogIterator::new(&log).map(|entry| entry.expect("an entry")).collect();
        let [LogEntry::StartTime(at), LogEntry::Interval(interval)] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        let told = (interval.tag().map(|tag| tag.as_str()), interval.start_timestamp(), interval.duration());
        assert_eq!((*at, told), (Duration::ZERO, (Some("delivery"), start, length)));
        let bytes = STANDARD.decode(interval.encoded_histogram()).expect("base64");
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
        assert_eq!((histogram.len(), histogram.max(), histogram.min()), (3, latency.histogram().max(), 10));
    }
}
