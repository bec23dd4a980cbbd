//! Every metric of the system, with its name, its labels and a sentence on how to read it.

use std::sync::Arc;

use opentelemetry::metrics::Meter;

use super::{CALL_SECONDS, COUNTS, Counter, Family, Gauge, Histogram, Maker, TASK_SECONDS};

macro_rules! metrics {
    ($($make:ident $field:ident: $series:ident = $name:literal [$($label:literal),*] $(($bounds:expr))? $help:literal;)*) => {
        /// All metrics of a process. Those with labels appear with their first value.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Arc<Family<$series>>,)*
        }

        impl Metrics {
            /// Metrics that are also sent to a collector, when there is one.
            pub fn new(meter: Option<Meter>) -> Metrics {
                let maker = Maker { meter };
                Metrics { $($field: maker.$make($name, $help, &[$($label),*] $(, $bounds)?),)* }
            }

            /// All of them in Prometheus' text format.
            pub fn to_text(&self) -> String {
                let mut out = String::new();
                $(self.$field.write(&mut out);)*
                out
            }
        }
    };
}

metrics! {
    counter runs: Counter = "gristmill_runs_total" ["outcome"] "Runs that ended, by how.";
    gauge runs_active: Gauge = "gristmill_runs_active" [] "Runs that this scheduler has not ended yet.";
    counter tasks: Counter = "gristmill_tasks_total" ["outcome"] "Attempts that ended, by how.";
    histogram task_duration: Histogram = "gristmill_task_duration_seconds" ["step"] (TASK_SECONDS)
        "How long attempts ran, by their step.";
    histogram task_wait: Histogram = "gristmill_task_wait_seconds" ["pool"] (TASK_SECONDS)
        "How long attempts waited for a slot after they were given out; growing means too few workers.";
    gauge queue_ready: Gauge = "gristmill_queue_ready" ["pool"] "Tasks of this scheduler that are ready and not given out.";
    gauge pool_wanted: Gauge = "gristmill_pool_wanted" ["pool"] "Workers that the pool should have.";
    gauge pool_workers: Gauge = "gristmill_pool_workers" ["pool", "state"] "Worker processes of the pool here.";
    gauge pool_work: Gauge = "gristmill_pool_work_seconds" ["pool"] "Expected time of what waits and runs.";
    counter pool_lost: Counter = "gristmill_pool_lost_total" ["pool"] "Workers that ended by themselves.";
    counter pool_paid: Counter = "gristmill_pool_paid_seconds_total" ["pool"] "Time of worker processes.";
    gauge budget_spent: Gauge = "gristmill_budget_spent_ratio" ["budget"] "What is spent of a budget, as a share of it.";
    gauge leases_held: Gauge = "gristmill_leases_held" [] "Attempts that this scheduler has given out.";
    counter leases_lost: Counter = "gristmill_leases_lost_total" [] "Leases that passed without a heartbeat.";
    gauge shards_owned: Gauge = "gristmill_shards_owned" [] "Shards of this scheduler; all schedulers' sum is 16.";
    gauge slots: Gauge = "gristmill_slots" ["state"] "Slots of this worker, busy and free.";
    histogram append_duration: Histogram = "gristmill_append_duration_seconds" [] (CALL_SECONDS)
        "How long facts took to become durable.";
    histogram turn_events: Histogram = "gristmill_turn_events" [] (COUNTS)
        "Events handled in one turn; growing means that the scheduler is behind.";
    histogram store_call_duration: Histogram = "gristmill_store_call_duration_seconds" ["verb", "result"] (CALL_SECONDS)
        "How long calls of Redis took.";
    histogram artifact_call_duration: Histogram = "gristmill_artifact_call_duration_seconds" ["verb", "result"] (TASK_SECONDS)
        "How long calls of the artifact store took.";
    counter artifact_bytes: Counter = "gristmill_artifact_bytes_total" ["verb"] "Bytes put into and read from artifacts.";
    counter inner_spans_dropped: Counter = "gristmill_inner_spans_dropped_total" []
        "Spans inside attempts that were too many for one attempt, and weren't exported.";
    counter messages: Counter = "gristmill_messages_total" ["operation", "result"]
        "Messages published to and settled with the broker.";
    histogram inference_duration: Histogram = "gristmill_inference_request_duration_seconds" ["model", "outcome"] (CALL_SECONDS)
        "How long requests for predictions took, from their head to their answer.";
    counter inference_rows: Counter = "gristmill_inference_rows_total" ["model"] "Rows that were scored online.";
    gauge inference_expected_wait: Gauge = "gristmill_inference_expected_wait_seconds" []
        "How long a request that comes now would wait for a model; requests are shed before it grows long.";
    gauge inference_connections: Gauge = "gristmill_inference_connections" [] "Open connections of online scoring.";
    gauge models_loaded: Gauge = "gristmill_models_loaded" [] "Model versions in memory.";
    gauge models_bytes: Gauge = "gristmill_models_bytes" [] "Bytes of the model versions in memory.";
    counter shadow_requests: Counter = "gristmill_shadow_requests_total" ["endpoint", "outcome"]
        "Requests that shadows took or had no time for; each shadow counts.";
    counter canary_rollbacks: Counter = "gristmill_canary_rollbacks_total" ["endpoint"]
        "Canaries that were taken back by themselves.";
    counter queue_requests: Counter = "gristmill_queue_requests_total" ["queue", "outcome"]
        "Requests for predictions that came by queue, by how they ended.";
    counter stream_messages: Counter = "gristmill_stream_messages_total" ["stream", "outcome"]
        "Messages of streams whose effect is safe, by what it is.";
    gauge stream_lag_messages: Gauge = "gristmill_stream_lag_messages" ["stream"]
        "Messages of a stream's source that aren't scored, those at hand included.";
    gauge stream_lag_seconds: Gauge = "gristmill_stream_lag_seconds" ["stream"]
        "Age of the oldest message at hand of a stream; growing means that scoring is slower than what arrives.";
    counter captured: Counter = "gristmill_captured_requests_total" ["outcome"]
        "Requests whose predictions were captured, or should have been.";
}
