//! Every limit of the system, each with the reason for its value.
//!
//! A limit lives here and nowhere else, so that the core, both kinds of backend, the worker, the clients
//! and the documentation cannot disagree about it.

/// Shards of a cluster. 16 lets a cluster grow to 16 scheduler processes, and an idle shard costs one
/// blocking read.
pub const SHARDS: u8 = 16;

/// Bytes of a message on the broker. Brokers slow down and page early with large messages; what is
/// larger becomes an artifact and its digest travels.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one journal entry. A turn with more facts is split over several entries of one append.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = 256 * 1024;
/// Attempts in one bundle. Past this the cost of a message is already spread thin, and a lost worker
/// would give back too much at a time.
pub const BUNDLE_ATTEMPTS_MAX: usize = 256;
/// Bytes of one bundle's items. It keeps an assignment well under [`MESSAGE_BYTES_MAX`].
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024;
/// Reports in one finish call: with more, one call would hold the store for over a millisecond.
pub const FINISH_REPORTS_MAX: usize = 256;
/// Bytes of one finish call, for the same reason.
pub const FINISH_BYTES_MAX: usize = 64 * 1024;
/// Milliseconds a worker waits for more reports when others are about to end.
pub const FINISH_LINGER_MS: u64 = 2;

/// Bytes of one task's output. Outputs stay in the scheduler's memory until the run ends: data goes
/// into artifacts, and an output names them.
pub const OUTPUT_BYTES_MAX: usize = 1024;
/// Bytes of one report: an output, a failure's text and the measurements.
pub const REPORT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an error's text. A longer one is cut in the middle; the whole text is in the worker's log.
pub const ERROR_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Submissions in one message or one request: about a tenth of a second of the store's work, after which others have
/// their turn, and an answer that stays small.
pub const SUBMISSIONS_MAX: usize = 1_000;
/// Bytes of a run's parameters.
pub const PARAMETERS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a pipeline file. The largest hand-written ones seen in the field are under 50 KiB.
pub const PIPELINE_BYTES_MAX: usize = 256 * 1024;
/// Nesting of a pipeline file. Real ones stay under ten; the parser must not run out of stack.
pub const PIPELINE_DEPTH_MAX: usize = 64;
/// Source files that a submission names. Each is some hundred bytes; folders with more are better read where they are.
pub const SOURCE_FILES_MAX: usize = 10_000;
/// Steps of a pipeline. Fan-out is what tasks are for; a graph with more nodes can't be read.
pub const STEPS_MAX: usize = 1_000;
/// Operators in one SQL text. Each can nest the query by one level, and what walks it has a finite stack:
/// 2,000 levels pass in a thread of 2 MiB in a debug build.
pub const SQL_OPERATORS_MAX: usize = 2_000;
/// Complaints printed of one file. Past this the first ones explain the rest.
pub const COMPLAINTS_MAX: usize = 100;

/// Children of one expansion.
pub const EXPAND_CHILDREN_MAX: u32 = 100_000;
/// Bytes of an expansion's items that stay inside the fact; larger ones become an artifact.
pub const EXPAND_INLINE_BYTES_MAX: usize = 64 * 1024;
/// How deep expansions nest: children of children. Planning, rounds and parts need three.
pub const EXPAND_DEPTH_MAX: u8 = 4;
/// Tasks of one run.
pub const RUN_TASKS_MAX: u32 = 1_000_000;
/// Attempts of one task, over all its causes and resumes. A task that needs more never ends.
pub const TASK_ATTEMPTS_MAX: u16 = 1_000;
/// Attempts out in one pool at a time, however many slots it has: what one owner can look up and
/// republish within a second.
pub const WINDOW_MAX: usize = 4_096;
/// Entries in a shard's inbox. Past it claims answer busy, so that reports drain first.
pub const INBOX_MAX: usize = 100_000;
/// Active runs in a shard: what an owner can replay within the take-over time.
pub const ACTIVE_RUNS_MAX: usize = 10_000;
/// Days for which run records and idempotency keys are kept.
pub const RUN_RECORD_DAYS: u64 = 7;
/// Schedules of a cluster. Each scheduler reads them all once a minute, which takes it a third of a
/// millisecond each in a debug build.
pub const SCHEDULES_MAX: usize = 10_000;
/// Triggers of a cluster. Each is compared with every run that ends, or has a folder that is looked at each second.
pub const TRIGGERS_MAX: usize = 1_000;
/// Milliseconds after its time at which a tick isn't late: schedulers are started again or replaced within that, and
/// as no schedule ticks more often, there is hardly ever another tick in it.
pub const TICK_LATE_MS: u64 = 60_000;
/// Ticks that one schedule makes up for: more than a week of daily and four days of hourly ones. Runs of older ones
/// would only keep those of newer ones waiting.
pub const CATCH_UP_MAX: usize = 100;
/// Ticks or firings that a document remembers with what became of them: as many as somebody reads.
pub const RECORDS_MAX: usize = 20;
/// Runs that follow each other by triggers on the ends of runs. Pipelines that people chain have a handful of links;
/// a circle of triggers ends after as many runs.
pub const TRIGGER_DEPTH_MAX: u32 = 10;
/// Files that a trigger's glob may match. They are all looked at each second; folders with more are split by date.
pub const TRIGGER_FILES_MAX: usize = 10_000;
/// Characters of a cron expression, of a time zone, and of a glob. A path has at most as many on common systems.
pub const CRON_CHARS_MAX: usize = 255;
pub const GLOB_CHARS_MAX: usize = 4_096;
/// Budgets of a cluster. Each is compared with all sums of its period every ten seconds.
pub const BUDGETS_MAX: usize = 200;
/// Sums of a day's costs, one for each namespace, pipeline, pool and step: some 200 bytes each in a document that is
/// written each second in which runs end. What comes beyond is summed up by namespace and pool.
pub const COST_ROWS_MAX: usize = 2_000;
/// Models of a day's costs.
pub const COST_MODELS_MAX: usize = 1_000;
/// Days of which costs are kept and can be asked for: a year and a month, so that months can be compared.
pub const COST_DAYS_MAX: u64 = 400;
/// Open runs whose use so far is counted for budgets. Each takes up to a megabyte while it is read.
pub const BUDGET_OPEN_RUNS_MAX: usize = 10_000;
/// Milliseconds between two samples of what a worker uses: what is shorter shares the sample with its neighbours in
/// time, and reading it takes some 50 microseconds.
pub const USAGE_SAMPLE_MS: u64 = 100;
/// Milliseconds between two writings of what was sampled. A worker that is killed loses as much, and no more than
/// some percentiles depend on it.
pub const USAGE_FLUSH_MS: u64 = 10_000;
/// Attempts that are measured in one sample. Those beyond are like them.
pub const USAGE_SAMPLED_MAX: usize = 4_096;
/// Steps of a pool whose use is kept, each with some KiB; others are summed up.
pub const USAGE_STEPS_MAX: usize = 500;
/// Records of one page of the list of runs. A page is read between the turns of the scheduler, and with more it would
/// hold the store for over a millisecond.
pub const RUN_PAGE_MAX: usize = 1_000;
/// Namespaces of one filter of runs. Each is a look into an index, on each shard.
pub const RUN_FILTER_NAMESPACES_MAX: usize = 256;
/// Characters of a name (steps, models, pools, parameters): fits a DNS label, a metric label and a key.
pub const NAME_CHARS_MAX: usize = 63;

/// Milliseconds between a worker's heartbeats.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Milliseconds for which a lease holds without a heartbeat: five may be lost, and with the poll and
/// the publish the task still runs elsewhere within ten seconds.
pub const LEASE_MS: u64 = 6_000;
/// Milliseconds between two looks for expired leases.
pub const EXPIRE_POLL_MS: u64 = 500;
/// Milliseconds for which a scheduler owns a shard without renewing.
pub const SHARD_LEASE_MS: u64 = 3_000;
/// Milliseconds between two renewals of a shard's lease.
pub const SHARD_RENEW_MS: u64 = 1_000;
/// Milliseconds after which a store call counts as having an unknown outcome.
pub const STORE_CALL_MS: u64 = 2_000;
/// Milliseconds for which schedulers and workers keep what they wrote, to say it again when the store
/// went back. Twice what Redis loses at `appendfsync everysec`, and one.
pub const REASSERT_MS: u64 = 5_000;
/// Milliseconds by which the store's clock and ours may differ between two polls before nothing expires.
pub const CLOCK_STEP_MS: u64 = 1_000;
/// Milliseconds before an unclaimed attempt is first published again.
pub const SWEEP_FIRST_MS: u64 = 10_000;
/// Milliseconds between two publications of the same attempt at the most.
pub const SWEEP_MAX_MS: u64 = 300_000;
/// Milliseconds from SIGTERM to handing back what still runs: under the 30 s of common orchestrators.
pub const DRAIN_MS: u64 = 25_000;
/// Bytes of a worker's label, key or value: as Kubernetes has them. Each heartbeat carries them.
pub const LABEL_BYTES_MAX: usize = 63;
/// Milliseconds after the claim at which a message is acknowledged though its work still runs.
pub const ACK_AFTER_MS: u64 = 1_000;
/// Milliseconds after the claim at which a bundle's unstarted attempts are handed back.
pub const UNSTARTED_RETURN_MS: u64 = 500;

/// Failures of a task with a retryable code before it has failed.
pub const FAILED_BUDGET: u16 = 3;
/// Attempts of a task that may pass its timeout.
pub const TIMED_OUT_BUDGET: u16 = 1;
/// Losses of a task that runs solo before it is parked. The first loss isn't counted: a neighbour may
/// have killed the worker.
pub const LOST_BUDGET: u16 = 3;
/// Milliseconds of the first retry's backoff; it doubles with each failure.
pub const BACKOFF_FIRST_MS: u64 = 1_000;
/// Milliseconds of backoff at the most.
pub const BACKOFF_MAX_MS: u64 = 300_000;
/// Milliseconds of backoff of a task that was handed back, at the most.
pub const RETURNED_BACKOFF_MAX_MS: u64 = 30_000;

/// Milliseconds of expected work that may be out in a pool beyond what its slots run.
pub const WINDOW_AHEAD_MS: u64 = 100;
/// Milliseconds of expected work in one bundle.
pub const BUNDLE_WORK_MS: u64 = 20;
/// Milliseconds of expected work that go in one bundle even when there would be enough for slots to have smaller ones:
/// about what a message costs, so spreading less than that gains nothing.
pub const BUNDLE_WORK_MS_MIN: u64 = 1;
/// A step whose longest recent task took longer than this isn't bundled.
pub const BUNDLE_TASK_MS_MAX: u64 = 100;
/// A step with a shorter timeout isn't bundled: waiting in a worker's list would eat it up.
pub const BUNDLE_TIMEOUT_MS_MIN: u64 = 10_000;
/// Reports of a step after which its measured times are trusted.
pub const REPORTS_TRUSTED: usize = 8;
/// Reports over which a step's times are measured.
pub const REPORTS_REMEMBERED: usize = 32;
/// Steps (by pipeline and kind of task) whose durations are remembered beyond a run: about 10 MB. Of those that come
/// after, nobody knows how long they take until their own run has told.
pub const DURATIONS_REMEMBERED: usize = 100_000;
/// Milliseconds of waiting that raise a priority by one, so that nothing starves.
pub const PRIORITY_AGE_MS: u64 = 60_000;

/// Classes of a target. Forests are grown for each class; past this a classification is a search problem.
pub const CLASSES_MAX: usize = 256;
/// Levels counted of a categorical column while features are fitted: about 20 MB a column. Columns with
/// more are identifiers, and no model learns from those.
pub const FEATURE_LEVELS_TRACKED_MAX: usize = 200_000;
/// Expressions among the features of a model. Each is evaluated for every row that is scored, some microseconds
/// for a row that comes alone; more belong into a transform.
pub const EXPRESSIONS_MAX: usize = 256;
/// Characters of an expression. A chain of additions is evaluated as deep as it is long, and threads have 2 MiB of stack.
pub const EXPRESSION_CHARS_MAX: usize = 500;
/// Bytes of a stored model or a trained part that are read back into memory.
pub const MODEL_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Bytes of a registered model's name. Escaped for a mark a byte takes three, and a part of a mark has up to 255.
pub const MODEL_NAME_BYTES_MAX: usize = 80;
/// Bytes of an alias or of a tag's name: what clients of other registries allow.
pub const MODEL_LABEL_BYTES_MAX: usize = 250;
/// Bytes of a tag's value or of a model's description: what clients of other registries allow, who keep whole prompts in
/// a tag. What is longer is an artifact.
pub const MODEL_TEXT_BYTES_MAX: usize = 100_000;
/// Artifacts, datasets or tags that one request to the registry names: they all stand in one entry of its log.
pub const MODEL_DIGESTS_MAX: usize = 1_000;
