//! All interleavings of a sleeping shard with its senders, stale reads included: no wake is lost. A wake that is lost is a
//! deadlock, which loom reports.
#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use ringcast_runtime_proof::doorbell::{Doorbell, Wake};

/// As an eventfd: a wake counts until somebody sleeps, a sleep takes all of them.
#[derive(Clone, Default)]
struct Eventfd(Arc<(Mutex<u64>, Condvar)>);

impl Eventfd {
    fn sleep(&self) {
        let (wakes, changed) = &*self.0;
        let mut wakes = wakes.lock().unwrap();
        while *wakes == 0 {
            wakes = changed.wait(wakes).unwrap();
        }
        *wakes = 0;
    }
}

impl Wake for Eventfd {
    fn wake(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_one();
    }
}

/// What one sender pushed, as the ring publishes it: released by the sender, acquired by the shard.
#[derive(Clone, Default)]
struct Ring(Arc<AtomicUsize>);

impl Ring {
    fn push(&self, messages: usize) {
        self.0.store(messages, Ordering::Release);
    }

    fn pushed(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// A shard that takes `wanted` messages of every ring, asleep whenever there is none, and then ends.
fn take_all(bell: &Doorbell<Eventfd>, eventfd: &Eventfd, rings: &[Ring], wanted: usize) {
    let mut taken = 0;
    while taken < wanted * rings.len() {
        let there: usize = rings.iter().map(Ring::pushed).sum();
        if there > taken {
            taken = there;
            continue;
        }
        bell.prepare_sleep();
        if rings.iter().map(Ring::pushed).sum::<usize>() == taken {
            eventfd.sleep();
        }
        bell.awake();
    }
}

/// `preemptions_max` bounds how often a thread is stopped where it need not wait; `None` for all interleavings.
fn check(senders: usize, messages: usize, preemptions_max: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions_max;
    model.check(move || {
        let eventfd = Eventfd::default();
        let bell = Doorbell::new(eventfd.clone());
        let rings: Vec<Ring> = (0..senders).map(|_| Ring::default()).collect();
        let threads: Vec<_> = rings
            .iter()
            .map(|ring| {
                let (ring, bell) = (ring.clone(), bell.clone());
                loom::thread::spawn(move || {
                    for message in 1..=messages {
                        ring.push(message);
                        bell.ring();
                    }
                })
            })
            .collect();
        take_all(&bell, &eventfd, &rings, messages);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn no_wake_is_lost_with_one_sender() {
    check(1, 2, None);
}

#[test]
fn no_wake_is_lost_with_two_senders() {
    // All of them are too many; bugs of this kind need few.
    check(2, 1, Some(3));
}

/// The same without the fences: loom must find the lost wake, or it proves nothing above.
#[test]
#[should_panic(expected = "deadlock")]
fn a_bell_without_fences_loses_a_wake() {
    loom::model(|| {
        let (eventfd, ring) = (Eventfd::default(), Ring::default());
        let sleeping = Arc::new(AtomicBool::new(false));
        let sender = {
            let (eventfd, ring, sleeping) = (eventfd.clone(), ring.clone(), Arc::clone(&sleeping));
            loom::thread::spawn(move || {
                ring.push(1);
                // A fence of a weaker kind is not enough either.
                fence(Ordering::AcqRel);
                if sleeping.load(Ordering::Relaxed) && sleeping.swap(false, Ordering::Relaxed) {
                    eventfd.wake();
                }
            })
        };
        sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::AcqRel);
        if ring.pushed() == 0 {
            eventfd.sleep();
        }
        sender.join().unwrap();
    });
}
