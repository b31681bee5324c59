//! What it costs to send a message from one shard to another: through a ring to a shard that is busy, and with a wake to one
//! that sleeps. Two threads, pinned to CPUs 0 and 1, with the rings, the bell and the io_uring of real shards.
//!
//! `cargo run --release -p ringcast-runtime --example hop`

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use ringcast_runtime::ring::{Doorbell, Endpoint, Mesh};
use ringcast_runtime::uring::{Uring, UringOptions, WakeHandle};
use ringcast_state::Message;
use ringcast_state::message::ChannelName;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Messages through a busy ring.
const STREAM: usize = 4_000_000;

/// Messages there and back.
const ROUNDS: usize = 100_000;

/// Longer than any sleep here.
const NAP: Duration = Duration::from_secs(10);

/// How a thread waits for the next message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waiting {
    /// It looks again and again, as a shard that has other work.
    Busy,
    /// It sleeps in its ring, as a shard that has none.
    Asleep,
}

/// What one thread has used.
struct Used {
    wall: Duration,
    cpu: Duration,
    sleeps: usize,
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "a message is {} bytes; figures per message and side\n", size_of::<Message>())?;
    writeln!(out, "{:<44} {:>9} {:>9} {:>9}", "", "wall ns", "sender", "receiver")?;
    for batch in [1, 16, 256] {
        let (sender, receiver) = stream(batch)?;
        let name = format!("busy ring, batches of {batch}");
        let [wall, sent, received] = [receiver.wall, sender.cpu, receiver.cpu].map(|used| per(used, STREAM));
        writeln!(out, "{name:<44} {wall:>9.1} {sent:>9.1} {received:>9.1}")?;
    }
    for waiting in [Waiting::Busy, Waiting::Asleep] {
        let (one, other) = ping_pong(waiting)?;
        let name = format!("one message there and back, {waiting:?} ({} sleeps)", one.sleeps);
        let [wall, one, other] = [one.wall, one.cpu, other.cpu].map(|used| per(used, 2 * ROUNDS));
        writeln!(out, "{name:<44} {wall:>9.0} {one:>9.0} {other:>9.0}")?;
    }
    Ok(())
}

fn per(used: Duration, messages: usize) -> f64 {
    used.as_nanos() as f64 / messages as f64
}

/// It shares something, as a delivery does, that the receiver gives up.
fn message(channel: &ChannelName) -> Message {
    Message::Insufficient { channel: channel.clone() }
}

/// One thread sends in batches, with one ring of the bell each; the other takes what there is.
fn stream(batch: usize) -> io::Result<(Used, Used)> {
    between(
        move |shard, _| {
            let channel = "channel".into();
            let mut sent = 0;
            while sent < STREAM {
                let before = sent;
                while sent < STREAM && sent < before + batch && shard.push(1, message(&channel)).is_ok() {
                    sent += 1;
                }
                shard.flush_wakes();
            }
            0
        },
        |shard, _| {
            let mut taken = 0;
            while taken < STREAM {
                taken += shard.drain(256, |_, message| drop(message));
            }
            0
        },
    )
}

/// The threads answer each other, one message at a time.
fn ping_pong(waiting: Waiting) -> io::Result<(Used, Used)> {
    let side = move |me: usize| {
        move |shard: &mut Endpoint<Message>, uring: &mut Uring| {
            let channel = "channel".into();
            let mut sleeps = 0;
            for _ in 0..ROUNDS {
                if me == 0 {
                    send(shard, 1, &channel);
                }
                sleeps += receive(shard, uring, waiting);
                if me == 1 {
                    send(shard, 0, &channel);
                }
            }
            sleeps
        }
    };
    between(side(0), side(1))
}

fn send(shard: &mut Endpoint<Message>, to: usize, channel: &ChannelName) {
    assert!(shard.push(to, message(channel)).is_ok(), "one message at a time fits");
    shard.flush_wakes();
}

/// Waits for one message. Returns how often it slept.
fn receive(shard: &mut Endpoint<Message>, uring: &mut Uring, waiting: Waiting) -> usize {
    let mut sleeps = 0;
    while shard.drain(256, |_, message| drop(message)) == 0 {
        if waiting == Waiting::Asleep {
            shard.bell().prepare_sleep();
            if shard.is_empty() {
                uring.sleep(NAP);
                sleeps += 1;
            }
            shard.bell().awake();
            uring.submit_and_collect(|_, _| {});
        }
    }
    sleeps
}

/// Runs both sides, each on a CPU of its own.
fn between(
    one: impl FnOnce(&mut Endpoint<Message>, &mut Uring) -> usize + Send + 'static,
    other: impl FnOnce(&mut Endpoint<Message>, &mut Uring) -> usize + Send + 'static,
) -> io::Result<(Used, Used)> {
    let wakes = [WakeHandle::new()?, WakeHandle::new()?];
    let bells = wakes.each_ref().map(|wake| Doorbell::new(wake.clone()));
    let mut ends = Mesh::endpoints(&bells).into_iter().zip(wakes);
    let (first, second) = (ends.next().expect("one for each bell"), ends.next().expect("one for each bell"));
    let one = thread::spawn(move || measure(0, first, one));
    let other = thread::spawn(move || measure(1, second, other));
    let ended = "a side ends when the other does";
    Ok((one.join().expect(ended)?, other.join().expect(ended)?))
}

fn measure(
    cpu: usize,
    (mut shard, wake): (Endpoint<Message>, WakeHandle),
    side: impl FnOnce(&mut Endpoint<Message>, &mut Uring) -> usize,
) -> io::Result<Used> {
    let mut mask = CpuSet::new();
    mask.set(cpu);
    sched_setaffinity(None, &mask)?;
    let mut uring = Uring::new(UringOptions::default(), wake)?;
    let (start, cpu_before) = (Instant::now(), cpu_time());
    let sleeps = side(&mut shard, &mut uring);
    Ok(Used { wall: start.elapsed(), cpu: cpu_time() - cpu_before, sleeps })
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
