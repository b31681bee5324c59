//! Sheds load before the kernel ends the process for want of memory: queues of slow clients first, then new clients, then
//! histories.

mod gauge;

use crate::machine::Machine;
use gauge::Gauge;
use ringcast_runtime::{Pressure, ReliefLine};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The fastest that memory is taken to fill up, bytes a second: so soon the next look is due.
const FILL_RATE: u64 = 1 << 30;

/// Longest and shortest time between two looks.
const LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(25)];

/// Time for what was shed to be given back to the kernel, before more is.
const PATIENCE: Duration = Duration::from_millis(200);

/// Lines of the log about one spell of pressure are so far apart at least.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Watches from now on, until the process ends. `budget` is key `memory.budget`.
pub fn start(budget: i64, line: ReliefLine) -> io::Result<()> {
    if budget < 0 {
        return Ok(());
    }
    let gauge = Gauge::new(Machine::at(Path::new("/")), u64::try_from(budget).ok().filter(|budget| *budget > 0));
    thread::Builder::new().name("memory".to_owned()).spawn(move || watch(&gauge, &line))?;
    Ok(())
}

fn watch(gauge: &Gauge, line: &ReliefLine) {
    let mut before = Pressure::None;
    let mut log_at = Instant::now();
    loop {
        let reading = gauge.read();
        let pressure = pressure(reading.used, reading.budget);
        if pressure != Pressure::None || before != Pressure::None {
            line.relieve(pressure);
        }
        let now = Instant::now();
        match pressure {
            Pressure::None if before != Pressure::None => info!(used = reading.used, "memory suffices again"),
            Pressure::None => {}
            _ if pressure > before || now >= log_at => {
                log_at = now + LOG_PERIOD;
                warn!(
                    used = reading.used,
                    budget = reading.budget,
                    "memory is short, {}: give the process more, or set client.connection_limit, client.queue_max_size or \
                     history_size lower",
                    measures(pressure)
                );
            }
            _ => {}
        }
        before = pressure;
        thread::sleep(pause(pressure, reading.budget.saturating_sub(reading.used)));
    }
}

/// Time to the next look with so many bytes left.
fn pause(pressure: Pressure, left: u64) -> Duration {
    match pressure {
        Pressure::None => Duration::from_secs_f64(left as f64 / FILL_RATE as f64).clamp(LOOKS[1], LOOKS[0]),
        _ => PATIENCE,
    }
}

/// With the budget at four fifths of the limit, the steps are at 80, 90 and 95 % of it.
fn pressure(used: u64, budget: u64) -> Pressure {
    let sixteenths = u128::from(used) * 16 / u128::from(budget.max(1));
    match sixteenths {
        0..16 => Pressure::None,
        16..18 => Pressure::Queues,
        18 => Pressure::Clients,
        _ => Pressure::Histories,
    }
}

fn measures(pressure: Pressure) -> &'static str {
    match pressure {
        Pressure::None => "nothing is given up",
        Pressure::Queues => "clients that do not read are closed with 3008",
        Pressure::Clients => "clients that do not read are closed with 3008, new ones refused with 503",
        Pressure::Histories => {
            "clients that do not read are closed with 3008, new ones refused with 503, older halves of histories forgotten"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_at_80_90_and_95_percent_of_the_limit() {
        let steps = [0, 79, 80, 89, 90, 94, 95, 200].map(|percent| pressure(percent << 20, 80 << 20));
        use Pressure::*;
        assert_eq!(steps, [None, None, Queues, Queues, Clients, Clients, Histories, Histories]);
        assert_eq!(pressure(2, 0), Histories);
    }

    #[test]
    fn the_less_is_left_the_sooner_it_is_looked_again() {
        let pauses = [64 << 30, 512 << 20, 0].map(|left| pause(Pressure::None, left));
        assert_eq!(pauses, [Duration::from_secs(1), Duration::from_millis(500), Duration::from_millis(25)]);
        assert_eq!(pause(Pressure::Clients, 0), PATIENCE);
    }
}
