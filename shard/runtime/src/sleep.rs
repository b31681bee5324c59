//! How a shard sleeps: in glommio's reactor, on the eventfd that its own ring and the other shards signal.

use std::io;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer;

use crate::uring::WakeHandle;

/// Period of a timer that does nothing: glommio 0.9 can park although a task is runnable, and while a shard is
/// awake its eventfd is silent. This bounds such a stall; the price is 40 wake-ups a second.
const BACKSTOP: Duration = Duration::from_millis(25);

/// The bed of one shard.
pub struct Sleep {
    eventfd: BufferedFile,
}

impl Sleep {
    /// Must be made, and used, on an executor.
    pub fn new(wake: &WakeHandle) -> io::Result<Self> {
        glommio::spawn_local(async {
            loop {
                timer::sleep(BACKSTOP).await;
            }
        })
        .detach();
        Ok(Self { eventfd: wake.sleep_file()? })
    }

    /// Until somebody signals the eventfd.
    pub async fn until_woken(&self) -> io::Result<()> {
        self.eventfd.read_at(0, size_of::<u64>()).await?;
        Ok(())
    }
}
