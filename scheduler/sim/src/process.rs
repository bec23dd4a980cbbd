//! A process that can be killed, stopped for a while and cut off, at any point of its code.
//!
//! Killing drops the process's futures at an await; what it has sent stays on its way. A stopped process
//! (SIGSTOP) isn't polled while time goes on and answers arrive. A fuse does either at a given call to the
//! outside, before it leaves or after it took effect, so that restarts happen between any two steps and not
//! only where a random moment falls, which is mostly idle.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gristmill_backends::state::StoreId;
use gristmill_protocol::limits::{CLOCK_STEP_MS, STORE_CALL_MS};
use tokio::time::Instant;

use crate::trace::Trace;

/// A scheduler, a worker or a client.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    /// The number that the owner token or the worker id is made of.
    pub instance: u64,
    trace: Trace,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    dead: bool,
    stopped_until: [Instant; 2],
    wakers: [Option<Waker>; 2],
    cut_until: Instant,
    /// Nothing has been in its way since.
    calm_since: Instant,
    fuse: Option<Fuse>,
    /// It goes round and round without waiting for anything.
    spins: bool,
    /// How far the store's clock had been set, and which life of the store it was, when it last asked for the time.
    looked_at: Option<(i64, StoreId, Instant)>,
    /// When it was first told a time that doesn't follow from what it was told before.
    learnt: Option<Instant>,
}

/// The futures that a process consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The loop; the only one of a scheduler.
    Loop = 0,
    /// A worker's heartbeat, which has a thread of its own.
    Beat = 1,
}

/// What happens to a process at one of its calls.
#[derive(Clone, Copy, Debug)]
pub struct Fuse {
    /// The calls that are left until it blows.
    pub calls: u64,
    /// The only calls that count; all when nothing is named.
    pub verb: Option<&'static str>,
    pub moment: Moment,
    pub blow: Blow,
}

/// When a fuse blows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The call doesn't leave, or only when the process goes on.
    Before,
    /// The call has taken effect and its answer isn't back.
    After,
}

/// What a fuse does.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    Kill,
    /// Milliseconds for which the process stands still.
    Stop(u64),
}

impl Process {
    /// A process that lives and is in nobody's way.
    pub fn new(name: String, instance: u64, trace: Trace) -> Arc<Process> {
        let now = Instant::now();
        let inner = Inner {
            dead: false,
            stopped_until: [now; 2],
            wakers: [None, None],
            cut_until: now,
            calm_since: now,
            fuse: None,
            spins: false,
            looked_at: None,
            learnt: None,
        };
        Arc::new(Process { name, instance, trace, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Checks panic only outside of the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process where it is.
    pub fn kill(&self) {
        self.trace.say(|| format!("{} is killed", self.name));
        self.lock().dead = true;
        self.wake();
    }

    /// Whether it was killed or has ended.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Stands still for so many milliseconds: all of it, or the loop alone.
    pub fn stop(self: &Arc<Process>, ms: u64, parts: &[Part]) {
        self.trace.say(|| format!("{} stands still for {ms} ms ({parts:?})", self.name));
        let until = Instant::now() + Duration::from_millis(ms);
        {
            let mut inner = self.lock();
            for part in parts {
                let stopped = &mut inner.stopped_until[*part as usize];
                *stopped = until.max(*stopped);
            }
            inner.calm_since = until.max(inner.calm_since);
        }
        let process = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            process.wake();
        });
    }

    /// Can't reach anybody for so many milliseconds.
    pub fn cut(&self, ms: u64) {
        self.trace.say(|| format!("{} is cut off for {ms} ms", self.name));
        let until = Instant::now() + Duration::from_millis(ms);
        let mut inner = self.lock();
        inner.cut_until = until.max(inner.cut_until);
        inner.calm_since = until.max(inner.calm_since);
    }

    /// Whether it is cut off.
    pub fn is_cut(&self) -> bool {
        Instant::now() < self.lock().cut_until
    }

    /// Takes everything out of its way.
    pub fn heal(&self) {
        let now = Instant::now();
        {
            let mut inner = self.lock();
            inner.stopped_until = [now; 2];
            inner.cut_until = now;
            inner.calm_since = now.min(inner.calm_since);
            inner.fuse = None;
        }
        self.wake();
    }

    /// It is told the time of a store whose clock was set by `offset_ms` in all.
    pub fn look(&self, offset_ms: i64, store: StoreId) {
        let (mut inner, now) = (self.lock(), Instant::now());
        // What is less than a step and the way of two answers can't be told from slow answers.
        let seen_from_ms = (CLOCK_STEP_MS + 2 * STORE_CALL_MS) as i64;
        let is_new = inner
            .looked_at
            .is_none_or(|(known_ms, known, _)| known != store || (offset_ms - known_ms).abs() > seen_from_ms);
        if is_new {
            let before = inner.looked_at.map_or(now, |(_, _, before)| before);
            // An answer that lay about while the process stood still is as wrong as the time it did, which may make
            // up for a step.
            inner.learnt = (inner.calm_since <= before).then_some(now);
        }
        inner.looked_at = Some((offset_ms, store, now));
    }

    /// What the store was like when the process last asked for the time.
    pub fn looked_at(&self) -> Option<(i64, StoreId)> {
        self.lock().looked_at.map(|(offset_ms, store, _)| (offset_ms, store))
    }

    /// When it last learnt that the store's time doesn't follow from what it knew.
    pub fn learnt(&self) -> Option<Instant> {
        self.lock().learnt
    }

    /// Whether it was ended because it used up the processor without ever waiting.
    pub fn spins(&self) -> bool {
        self.lock().spins
    }

    /// Whether nothing has been in its way for so long.
    pub fn was_calm_for(&self, span: Duration) -> bool {
        let inner = self.lock();
        !inner.dead && Instant::now().saturating_duration_since(inner.calm_since) >= span
    }

    /// Sets a fuse some calls ahead.
    pub fn set_fuse(&self, fuse: Fuse) {
        self.lock().fuse = Some(fuse);
    }

    /// Counts a call; says what blows at it.
    pub fn count_call(&self, verb: &'static str) -> Option<Fuse> {
        let mut inner = self.lock();
        let fuse = inner.fuse.as_mut().filter(|fuse| fuse.verb.is_none_or(|counted| counted == verb))?;
        fuse.calls = fuse.calls.saturating_sub(1);
        inner.fuse.take_if(|fuse| fuse.calls == 0)
    }

    /// Whether it stands still.
    pub fn is_stopped(&self) -> bool {
        Instant::now() < self.lock().stopped_until[Part::Loop as usize]
    }

    /// Lets a fuse blow.
    pub fn blow(self: &Arc<Process>, blow: Blow) {
        match blow {
            Blow::Kill => self.kill(),
            Blow::Stop(ms) => self.stop(ms, &[Part::Loop, Part::Beat]),
        }
    }

    fn wake(&self) {
        let wakers = {
            let mut inner = self.lock();
            [inner.wakers[0].take(), inner.wakers[1].take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Runs a future as a part of a process. Ends when the future does or the process is killed.
pub struct Running {
    process: Arc<Process>,
    part: Part,
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// When it was last polled, and how often at that time.
    polled: (Instant, u32),
}

/// Polls of a process at one point of virtual time, which doesn't go on before all wait for something: far more
/// than any work needs.
const POLLS_MAX: u32 = 100_000;

impl Running {
    pub fn new(process: Arc<Process>, part: Part, future: impl Future<Output = ()> + Send + 'static) -> Running {
        Running { process, part, future: Some(Box::pin(future)), polled: (Instant::now(), 0) }
    }
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let part = this.part as usize;
        let now = Instant::now();
        this.polled = if this.polled.0 == now { (now, this.polled.1 + 1) } else { (now, 1) };
        if this.polled.1 > POLLS_MAX {
            this.process.lock().spins = true;
            this.process.kill();
        }
        {
            let mut inner = this.process.lock();
            inner.wakers[part] = Some(context.waker().clone());
            if !inner.dead && now < inner.stopped_until[part] {
                return Poll::Pending;
            }
        }
        if !this.process.is_dead()
            && let Some(future) = &mut this.future
            && future.as_mut().poll(context).is_pending()
            && !this.process.is_dead()
        {
            return Poll::Pending;
        }
        this.future = None;
        Poll::Ready(())
    }
}
