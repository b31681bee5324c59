//! The kernel's price of a request to the API: an HTTP POST that is answered without being read, by a process of its own, and one
//! bare write for each delivery. It is asked by the same run as the server, with the same accounts.

use memchr::memmem;

use super::answerer::{Setup, addresses_block};
use super::child::Child;
use super::{FloorOptions, frame};
use crate::drive::{Audience, Own, Plan, Run};
use crate::engine::Peer;
use crate::failure::Failure;
use crate::measure::Meter;
use crate::options::Common;
use crate::payload;
use crate::process::Process;
use crate::report::Report;
use crate::rounds::{Rounds, Window, Windows};
use crate::spread::Spread;

/// A run against the process that answers.
pub struct RequestFloor {
    run: Run,
    windows: Vec<Window>,
    /// Ended with the run.
    _child: Child,
}

impl RequestFloor {
    /// Starts it beside a run of the same plan, which the server has answered already.
    pub fn start(common: &Common, plan: &Plan<'_>, options: &FloorOptions, server: &Run) -> Result<Self, Failure> {
        let Audience::Own(channels) = plan.audience else {
            return Err(Failure::Usage("the floor of requests needs channels of their own".to_owned()));
        };
        let setup = setup(common, plan, channels, server.engine.response(0))?;
        let child = Child::answerer(&setup.to_block(), options.core(&server.meter));
        let mut child = child.map_err(Failure::system("starting the process that answers"))?;
        let meter = Meter::of(Process::open(child.pid())?)?;
        let writer = Peer::plain(child.address());
        let run = plan.start_bare(common, meter, &writer, |subscribers| {
            child.await_ready()?;
            child.write(&addresses_block(subscribers))
        })?;
        Ok(Self { run, windows: Vec::new(), _child: child })
    }

    /// Asks as in a window of the server.
    pub fn window(&mut self) -> Result<(), Failure> {
        let window = self.run.window()?;
        if self.run.is_broken() {
            return Err(Failure::Stalled { waiting_for: format!("the floor: {}", self.run.problems()) });
        }
        self.windows.push(window);
        Ok(())
    }

    /// Rows on it, compared with the windows of the server.
    pub fn tell(&self, report: &mut Report, windows: &Windows, with_server: bool) {
        let per_request = |w: &Window| w.used.server.as_secs_f64() * 1e6 / w.requests.max(1) as f64;
        let each = self.windows.iter().map(per_request);
        report.spread("floor_cpu_per_request_us", "floor: CPU per request", Spread::of(each), "µs");
        let each = self.windows.iter().map(Window::cost_us);
        report.spread("floor_cpu_per_publication_us", "floor: CPU per publication", Spread::of(each), "µs");
        if with_server {
            let pairs = windows.list.iter().zip(&self.windows);
            let ratios = pairs.map(|(server, floor)| server.cost_us() / floor.cost_us());
            report.spread("floor_ratio", "server / floor", Spread::of(ratios), "");
        }
    }
}

fn setup(common: &Common, plan: &Plan<'_>, channels: Own, answer: &[u8]) -> Result<Setup, Failure> {
    let request = plan.request(common)?;
    let frame = frame(common.protocol.encoding(), &plan.target.name(0), common.payload);
    let payload_at = memmem::find(&frame, &payload::template(common.payload));
    Ok(Setup {
        channels,
        request_bytes: request.request_bytes(),
        payloads: request.payloads().to_vec(),
        payload_bytes: common.payload,
        answer: answer.to_vec(),
        payload_at: payload_at.expect("neither encoding changes the payload"),
        frame,
    })
}
