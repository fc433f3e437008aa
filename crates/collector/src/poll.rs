//! Asks each sidecar for its `/stats`, once a second.
//!
//! Each pod has a task and a connection of its own, which is kept. What hangs is given up after a time, and pods that did not
//! answer last wait in a queue of their own. Who answered last and now takes long gives its turn to others: some hundreds of pods
//! that hang at once delay the others by a second or two, and once.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use crate::metrics::Metrics;
use crate::pod::{Key, Pod};
use crate::shared::Shared;
use crate::source::{Change, List, MOST_PODS};
use crate::stats::Stats;
use crate::sync::{self, Synced};

/// From one question to the next.
const EVERY: Duration = Duration::from_secs(1);
/// From one question to a log adapter or a content sync to the next, in questions for the stats.
const OTHERS_EVERY: u32 = 5;
/// How long a pod may take for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may have one of the turns of those that answered last.
const PROMPT: Duration = Duration::from_millis(200);
/// How long a log adapter or a content sync may take: the pod itself is not asked meanwhile.
const OTHERS_PATIENCE: Duration = Duration::from_millis(500);
/// Questions at a time: to pods that answered last, to those of them that take longer than [`PROMPT`], to the others, to log
/// adapters, and to content syncs.
const WELL: usize = 128;
const SLOW: usize = 512;
const SUSPECTS: usize = 64;
const LOGS: usize = 128;
const SYNCS: usize = 128;
/// The longest document that is read. A proxy with a hundred routes has 60 kB.
const LONGEST: usize = 256 * 1024;
/// What a connection reads at a time: each keeps its buffer, and there are thousands. With hyper's own choice, from 8 kB on, they were
/// a third of all memory.
const BUFFER: usize = 4 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error("the pod has no address yet")]
    NoAddress,
    #[error("failed to connect: {0}")]
    Connect(std::io::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("no answer within {} ms, as of many others", PROMPT.as_millis())]
    Crowded,
    #[error("the sidecar refused the token of its own annotation (401)")]
    Unauthorized,
    #[error("the sidecar answered {0}")]
    Status(StatusCode),
    #[error("failed to read the answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is too long or broke off")]
    Body,
    // Where and not what: serde's own text repeats what the pod sent.
    #[error("the answer is no /stats document: line {}, column {}", .0.line(), .0.column())]
    Document(#[from] serde_json::Error),
}

/// Keeps one task for each pod, for ever; on a `LocalSet` or a local runtime.
pub(crate) async fn run(mut changes: Receiver<Change>, shared: Shared, metrics: Metrics) {
    let queues = Queues {
        well: Semaphore::new(WELL),
        slow: Semaphore::new(SLOW),
        suspects: Semaphore::new(SUSPECTS),
        logs: Semaphore::new(LOGS),
        syncs: Semaphore::new(SYNCS),
    };
    let mut tasks = Tasks {
        running: HashMap::new(),
        left_out: HashSet::new(),
        shared: shared.clone(),
        metrics: metrics.clone(),
        queues: Rc::new(queues),
    };
    while let Some(change) = changes.recv().await {
        match change {
            Change::All(list) => tasks.replace(list),
            Change::Is(pod) => tasks.watch(pod),
            Change::Gone(key) => tasks.end(&key),
        }
        metrics.watching(tasks.running.len());
        shared.change(|mesh| mesh.left_out = tasks.left_out.len());
    }
}

/// Those that run, and what they share.
struct Tasks {
    running: HashMap<Key, (Arc<Pod>, JoinHandle<()>)>,
    /// Pods that are not watched because there are too many: until there is room and they change, or all are listed again.
    left_out: HashSet<Key>,
    shared: Shared,
    metrics: Metrics,
    queues: Rc<Queues>,
}

impl Tasks {
    fn replace(&mut self, list: List) {
        let listed: HashSet<_> = list.pods.iter().map(|pod| &pod.key).collect();
        let gone: Vec<_> = self.running.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.end(&key);
        }
        self.left_out = list.left_out;
        for pod in list.pods {
            self.watch(pod);
        }
    }

    fn watch(&mut self, pod: Arc<Pod>) {
        let running = self.running.get(&pod.key);
        if running.is_none() && self.running.len() >= MOST_PODS {
            self.left_out.insert(pod.key.clone());
            return;
        }
        self.left_out.remove(&pod.key);
        self.shared.change(|mesh| mesh.put(Arc::clone(&pod), Instant::now()));
        if running.is_some_and(|(known, _)| same_questions(&pod, known)) {
            return;
        }
        let watch = Watch {
            pod: Arc::clone(&pod),
            shared: self.shared.clone(),
            metrics: self.metrics.clone(),
            queues: Rc::clone(&self.queues),
        };
        let task = tokio::task::spawn_local(watch.run());
        if let Some((_, before)) = self.running.insert(pod.key.clone(), (pod, task)) {
            before.abort();
        }
    }

    fn end(&mut self, key: &Key) {
        self.left_out.remove(key);
        if let Some((_, task)) = self.running.remove(key) {
            task.abort();
            self.shared.change(|mesh| mesh.delete(key, Instant::now()));
        }
    }
}

fn same_questions(a: &Pod, b: &Pod) -> bool {
    (a.admin, a.logs_admin, a.sync_admin, &a.token) == (b.admin, b.logs_admin, b.sync_admin, &b.token)
}

/// Turns to ask.
struct Queues {
    well: Semaphore,
    slow: Semaphore,
    suspects: Semaphore,
    logs: Semaphore,
    syncs: Semaphore,
}

/// One pod's task.
struct Watch {
    pod: Arc<Pod>,
    shared: Shared,
    metrics: Metrics,
    queues: Rc<Queues>,
}

impl Watch {
    async fn run(self) {
        let mut connection = None;
        let mut well = false;
        // Spread over the second, and with their logs over five, always at the same place.
        let mut hasher = DefaultHasher::new();
        self.pod.key.hash(&mut hasher);
        let place = hasher.finish() % (1000 * u64::from(OTHERS_EVERY));
        let begin = tokio::time::Instant::now() + Duration::from_millis(place % 1000);
        let mut ticks = interval_at(begin, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in place / 1000.. {
            ticks.tick().await;
            let answer = self.in_turn(well, self.stats(&mut connection)).await;
            well = answer.is_ok();
            match answer {
                Ok(stats) => {
                    self.metrics.polled(true);
                    self.shared.change(|mesh| mesh.answered(&self.pod.key, stats, Instant::now()));
                }
                Err(error) => {
                    connection = None;
                    self.metrics.polled(false);
                    tracing::debug!(namespace = self.pod.key.namespace, pod = self.pod.key.name, %error, "poll failed");
                    self.shared.change(|mesh| mesh.failed(&self.pod.key, &error.to_string()));
                }
            }
            if number % u64::from(OTHERS_EVERY) == 0
                && (self.pod.logs_admin.is_some() || self.pod.sync_admin.is_some())
            {
                // Apart: a task is as large as its largest part, and few pods have others to ask.
                Box::pin(self.ask_others()).await;
            }
        }
    }

    /// Where too many of a kind hang, they are asked another time: the pod's own figures don't wait for them.
    async fn ask_others(&self) {
        if let Some((address, _turn)) = self.pod.logs_admin.zip(self.queues.logs.try_acquire().ok()) {
            let lag = log_lag(address).await;
            self.shared.change(|mesh| mesh.log_lag(&self.pod.key, lag));
        }
        if let Some((address, _turn)) = self.pod.sync_admin.zip(self.queues.syncs.try_acquire().ok()) {
            let synced = self.synced(address).await;
            self.shared.change(|mesh| mesh.synced(&self.pod.key, synced));
        }
    }

    async fn synced(&self, address: SocketAddr) -> Option<Vec<Synced>> {
        let body = ask_once(address, self.request(address)).await?;
        sync::parse(&body).ok()
    }

    /// The answer, when it is the pod's turn.
    async fn in_turn(
        &self,
        well: bool,
        ask: impl Future<Output = Result<Stats, PollError>>,
    ) -> Result<Stats, PollError> {
        if !well {
            let _turn = self.queues.suspects.acquire().await;
            return ask.await;
        }
        let turn = self.queues.well.acquire().await;
        let mut ask = pin!(ask);
        if let Ok(answer) = timeout(PROMPT, &mut ask).await {
            return answer;
        }
        drop(turn);
        let _turn = self.queues.slow.try_acquire().map_err(|_| PollError::Crowded)?;
        ask.await
    }

    async fn stats(&self, connection: &mut Option<Connection>) -> Result<Stats, PollError> {
        let address = self.pod.admin.ok_or(PollError::NoAddress)?;
        let ask = async {
            let (mut sender, kept) = match connection.take() {
                Some(kept) if !kept.is_closed() => (kept, true),
                _ => (connect(address).await?, false),
            };
            let request = || self.request(address);
            let answer = match sender.send_request(request()).await {
                // The sidecar closed it just now, idle for too long or restarted: that alone is no failure.
                Err(_) if kept => {
                    sender = connect(address).await?;
                    sender.send_request(request()).await?
                }
                answer => answer?,
            };
            let status = answer.status();
            if status != StatusCode::OK {
                return Err(match status {
                    StatusCode::UNAUTHORIZED => PollError::Unauthorized,
                    status => PollError::Status(status),
                });
            }
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let body = body.map_err(|_| PollError::Body)?.to_bytes();
            Ok((Stats::parse(&body)?, sender))
        };
        let (stats, sender) = timeout(PATIENCE, ask).await.map_err(|_| PollError::Timeout)??;
        *connection = Some(sender);
        Ok(stats)
    }

    fn request(&self, address: SocketAddr) -> Request<Empty<Bytes>> {
        let request = Request::get("/stats").header(HOST, address.to_string());
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.pod.token));
        // A token that can't stand in a header is nobody's: without one the sidecar says 401.
        request.body(Empty::new()).unwrap_or_else(|_| {
            let mut bare = Request::new(Empty::new());
            *bare.uri_mut() = hyper::Uri::from_static("/stats");
            bare
        })
    }
}

type Connection = SendRequest<Empty<Bytes>>;

async fn connect(address: SocketAddr) -> Result<Connection, PollError> {
    let stream = TcpStream::connect(address).await.map_err(PollError::Connect)?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        http1::Builder::new().read_buf_exact_size(Some(BUFFER)).handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // It ends with the sender; why, the next question tells.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The bytes of log files that the adapter has not written out, of all its sources together.
async fn log_lag(address: SocketAddr) -> Option<u64> {
    let request = Request::get("/metrics").header(HOST, address.to_string()).body(Empty::new()).ok()?;
    let body = ask_once(address, request).await?;
    Some(sum(std::str::from_utf8(&body).ok()?, "outrigger_log_lag_bytes"))
}

/// By a connection of its own, since these are asked seldom.
async fn ask_once(address: SocketAddr, request: Request<Empty<Bytes>>) -> Option<Bytes> {
    let ask = async {
        let mut sender = connect(address).await.ok()?;
        let answer = sender.send_request(request).await.ok()?;
        Some(Limited::new(answer.into_body(), LONGEST).collect().await.ok()?.to_bytes())
    };
    timeout(OTHERS_PATIENCE, ask).await.ok()?
}

/// Of all series of a family in Prometheus' text format.
fn sum(text: &str, family: &str) -> u64 {
    let of_family = |line: &&str| {
        line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    };
    let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
    text.lines().filter(of_family).filter_map(value).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::task::{LocalSet, yield_now};

    use super::*;
    use crate::pod::tests::object;

    /// Once, all pods were kept, and copied for each change of one.
    #[tokio::test]
    async fn of_pods_beyond_the_most_the_name_is_kept_until_there_is_room() {
        // Without an address nothing is asked.
        let pod = |number| {
            let mut pod = object("shop", "api", number, "");
            pod["metadata"]["annotations"] = json!({});
            Pod::of(&pod).unwrap()
        };
        let key = |number| pod(number).key;
        let mut list = List::default();
        list.extend((0..MOST_PODS + 2).map(pod));
        assert_eq!((list.pods.len(), list.left_out.len()), (MOST_PODS, 2));
        let (shared, (changes, told)) = (Shared::default(), tokio::sync::mpsc::channel(1));
        let local = LocalSet::new();
        local.spawn_local(run(told, shared.clone(), Metrics::default()));
        let after = async |change| {
            changes.send(change).await.unwrap();
            // Whoever has room for one more has taken what was sent before.
            drop(changes.reserve().await.unwrap());
            yield_now().await;
            shared.look(|mesh| (mesh.pods().filter(|pod| !pod.is_deleted()).count(), mesh.left_out))
        };
        let tests = async {
            assert_eq!(after(Change::All(list)).await, (MOST_PODS, 2));
            let one_more = MOST_PODS + 2;
            assert_eq!(after(Change::Is(Arc::new(pod(one_more)))).await, (MOST_PODS, 3));
            assert_eq!(after(Change::Gone(key(one_more))).await, (MOST_PODS, 2));
            assert_eq!(after(Change::Gone(key(0))).await, (MOST_PODS - 1, 2));
            assert_eq!(after(Change::Is(Arc::new(pod(MOST_PODS)))).await, (MOST_PODS, 1), "there was room");
            assert_eq!(after(Change::All(List::default())).await, (0, 0));
        };
        local.run_until(tests).await;
    }

    #[test]
    fn a_familys_series_are_summed_and_no_others() {
        let text = "# TYPE outrigger_log_lag_bytes gauge\noutrigger_log_lag_bytes{container=\"a b\"} 5\n\
                    outrigger_log_lag_bytes{container=\"c\"} 7\noutrigger_log_lag_bytes_total 100\n";
        assert_eq!(sum(text, "outrigger_log_lag_bytes"), 12);
    }
}
