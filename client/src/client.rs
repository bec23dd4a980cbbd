//! The API as functions.

use std::time::Duration;

use bytes::Bytes;
use gristmill_protocol::api::{
    AliasMoved, CheckPipeline, CheckedPipeline, Dataset, DatasetItem, Explanation, KeepPipeline, Kept, MadeToken,
    Model, ModelItem, NewToken, Page, PipelineItem, PipelineVersion, PoolItem, Promote, Rollback, Run, RunAsked,
    RunItem, SUBMISSIONS_MAX, SetEndpoint, Submit, SubmitMany, SubmitResult, Submitted, SubmittedMany, TaskInfo,
    TaskItem, Timeline, TokenItem, Uploaded, WhoAmI, WorkerItem,
};
use gristmill_protocol::{Digest, RunId};
use hyper::Method;
use serde_json::Value;

use crate::transport::{Content, Transport, part, query};
use crate::{ClientError, Watch};

/// Bytes of an artifact that is read into memory.
const ARTIFACT_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// Talks to a server's API. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
}

/// Which runs are listed, and where the list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    pub namespace: Option<String>,
    pub pipeline: Option<String>,
    /// `running`, `succeeded`, `failed`, `rejected` or `cancelled`.
    pub status: Option<String>,
    /// Part of the pipeline's name, or the last digits of a run's id.
    pub search: Option<String>,
    /// 1 to 500.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Which tasks of a run are listed, and where the list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    pub step: Option<String>,
    pub status: Option<String>,
    /// 1 to 500.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:5000`. Nothing is sent yet.
    pub fn new(url: &str) -> Result<Client, ClientError> {
        Ok(Client { transport: Transport::new(url)? })
    }

    /// The same with a token.
    pub fn with_token(mut self, token: &str) -> Result<Client, ClientError> {
        self.transport.set_token(token)?;
        Ok(self)
    }

    /// The same with another time that a call may take; 30 s unless told otherwise.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.transport.set_timeout(timeout);
        self
    }

    // Runs.

    /// Submits a run. Without a key of the caller's it gets a random one, so that it is made once though it may have to
    /// be sent again.
    pub async fn submit(&self, submit: &Submit) -> Result<Submitted, ClientError> {
        let keyed = Submit { key: Some(submit.key.clone().unwrap_or_else(random_key)), ..submit.clone() };
        self.transport.call(Method::POST, "/v1/runs", Content::json(&keyed)?).await
    }

    /// Submits many runs, up to 1,000 a request. One that is refused says so in its place, and the others are made.
    pub async fn submit_many(
        &self,
        submissions: impl IntoIterator<Item = Submit>,
    ) -> Result<Vec<SubmitResult>, ClientError> {
        let mut results = Vec::new();
        let mut submissions = submissions.into_iter().peekable();
        while submissions.peek().is_some() {
            let part = submissions.by_ref().take(SUBMISSIONS_MAX).map(|submit| {
                let key = Some(submit.key.clone().unwrap_or_else(random_key));
                Submit { key, ..submit }
            });
            let body = Content::json(&SubmitMany { submissions: part.collect() })?;
            let made: SubmittedMany = self.transport.call(Method::POST, "/v1/runs/batch", body).await?;
            results.extend(made.results);
        }
        Ok(results)
    }

    /// Lists runs, newest first.
    pub async fn runs(&self, asked: &RunQuery) -> Result<Page<RunItem>, ClientError> {
        let RunQuery { namespace, pipeline, status, search, limit, cursor } = asked.clone();
        let asked = query(&[
            ("namespace", namespace),
            ("pipeline", pipeline),
            ("status", status),
            ("search", search),
            ("limit", limit.map(|limit| limit.to_string())),
            ("cursor", cursor),
        ]);
        self.get(&format!("/v1/runs{asked}")).await
    }

    /// A run as it stands.
    pub async fn run(&self, run: RunId) -> Result<Run, ClientError> {
        self.get(&format!("/v1/runs/{run}")).await
    }

    /// Watches a run: it is told as it stands, and again whenever it has changed, until it has ended. Broken connections
    /// are mended.
    pub fn watch(&self, run: RunId) -> Watch {
        Watch::new(self.transport.clone(), run)
    }

    /// Waits until a run has ended.
    pub async fn wait(&self, run: RunId) -> Result<Run, ClientError> {
        let mut watch = self.watch(run);
        loop {
            match watch.next().await? {
                Some(run) if run.has_ended() => return Ok(run),
                Some(_) => {}
                None => return self.run(run).await,
            }
        }
    }

    /// Why a run is where it is.
    pub async fn explain(&self, run: RunId) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/runs/{run}/explain")).await
    }

    /// A run's attempts over time.
    pub async fn timeline(&self, run: RunId) -> Result<Timeline, ClientError> {
        self.get(&format!("/v1/runs/{run}/timeline")).await
    }

    /// Lists a run's tasks.
    pub async fn tasks(&self, run: RunId, asked: &TaskQuery) -> Result<Page<TaskItem>, ClientError> {
        let TaskQuery { step, status, limit, cursor } = asked.clone();
        let limit = limit.map(|limit| limit.to_string());
        let asked = query(&[("step", step), ("status", status), ("limit", limit), ("cursor", cursor)]);
        self.get(&format!("/v1/runs/{run}/tasks{asked}")).await
    }

    /// A task, by its index.
    pub async fn task(&self, run: RunId, task: u32) -> Result<TaskInfo, ClientError> {
        self.get(&format!("/v1/runs/{run}/tasks/{task}")).await
    }

    /// Asks a run to stop. Said again, it would be answered that the run has ended; it is tried once.
    pub async fn cancel(&self, run: RunId) -> Result<RunAsked, ClientError> {
        self.transport.call_once(Method::POST, &format!("/v1/runs/{run}/cancel"), Content::Nothing).await
    }

    /// Asks a run that has ended to go on; what succeeded isn't done again. It is tried once.
    pub async fn resume(&self, run: RunId) -> Result<RunAsked, ClientError> {
        self.transport.call_once(Method::POST, &format!("/v1/runs/{run}/resume"), Content::Nothing).await
    }

    // Pipelines.

    /// Checks a pipeline as a whole; what is wrong is in the error's complaints.
    pub async fn check(&self, check: &CheckPipeline) -> Result<CheckedPipeline, ClientError> {
        self.transport.call(Method::POST, "/v1/pipelines/check", Content::json(check)?).await
    }

    /// Keeps a pipeline as the next version of its name.
    pub async fn keep(&self, keep: &KeepPipeline) -> Result<Kept, ClientError> {
        self.transport.call(Method::POST, "/v1/pipelines", Content::json(keep)?).await
    }

    /// Lists kept pipelines.
    pub async fn pipelines(&self, cursor: Option<String>) -> Result<Page<PipelineItem>, ClientError> {
        self.get(&format!("/v1/pipelines{}", query(&[("cursor", cursor)]))).await
    }

    /// A version of a kept pipeline.
    pub async fn pipeline(&self, name: &str, version: u64) -> Result<PipelineVersion, ClientError> {
        self.get(&format!("/v1/pipelines/{}/versions/{version}", part(name))).await
    }

    // Data.

    /// Puts a file among the artifacts, for a submission to name; at most 1 GiB.
    pub async fn upload(&self, bytes: Bytes) -> Result<Uploaded, ClientError> {
        self.transport.call(Method::POST, "/v1/files", Content::Bytes(bytes)).await
    }

    /// The bytes of an artifact, of 2 GiB at the most.
    pub async fn artifact(&self, digest: Digest) -> Result<Bytes, ClientError> {
        let path = format!("/v1/artifacts/{digest}");
        self.transport.bytes(Method::GET, &path, Content::Nothing, ARTIFACT_BYTES_MAX).await
    }

    /// Lists datasets, those of the newest runs first.
    pub async fn datasets(&self, cursor: Option<String>) -> Result<Page<DatasetItem>, ClientError> {
        self.get(&format!("/v1/datasets{}", query(&[("cursor", cursor)]))).await
    }

    /// A dataset, by the digest of its manifest.
    pub async fn dataset(&self, digest: Digest) -> Result<Dataset, ClientError> {
        self.get(&format!("/v1/datasets/{digest}")).await
    }

    // Models and endpoints.

    /// Lists registered models.
    pub async fn models(&self, cursor: Option<String>) -> Result<Page<ModelItem>, ClientError> {
        self.get(&format!("/v1/models{}", query(&[("cursor", cursor)]))).await
    }

    /// A registered model.
    pub async fn model(&self, name: &str) -> Result<Model, ClientError> {
        self.get(&format!("/v1/models/{}", part(name))).await
    }

    /// Points an alias to a version, if its evidence allows.
    pub async fn promote(&self, name: &str, promote: &Promote) -> Result<AliasMoved, ClientError> {
        let path = format!("/v1/models/{}/promote", part(name));
        self.transport.call(Method::POST, &path, Content::json(promote)?).await
    }

    /// Points an alias back to where it was before. A second call goes back further, so it is tried once.
    pub async fn rollback(&self, name: &str, rollback: &Rollback) -> Result<AliasMoved, ClientError> {
        let path = format!("/v1/models/{}/rollback", part(name));
        self.transport.call_once(Method::POST, &path, Content::json(rollback)?).await
    }

    /// Lists endpoints of online scoring.
    pub async fn endpoints(&self) -> Result<Page<Value>, ClientError> {
        self.get("/v1/endpoints").await
    }

    /// Says what an endpoint serves.
    pub async fn set_endpoint(&self, name: &str, wanted: &SetEndpoint) -> Result<Value, ClientError> {
        self.transport.call(Method::PUT, &format!("/v1/endpoints/{}", part(name)), Content::json(wanted)?).await
    }

    // The cluster.

    /// Lists workers that were heard of lately.
    pub async fn workers(&self, cursor: Option<String>) -> Result<Page<WorkerItem>, ClientError> {
        self.get(&format!("/v1/workers{}", query(&[("cursor", cursor)]))).await
    }

    /// Lists pools.
    pub async fn pools(&self) -> Result<Page<PoolItem>, ClientError> {
        self.get("/v1/pools").await
    }

    // Access.

    /// Who the server takes the caller for.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get("/v1/whoami").await
    }

    /// Lists tokens.
    pub async fn tokens(&self, cursor: Option<String>) -> Result<Page<TokenItem>, ClientError> {
        self.get(&format!("/v1/tokens{}", query(&[("cursor", cursor)]))).await
    }

    /// Makes a token. If the answer is lost, so is the token; it is tried once.
    pub async fn create_token(&self, new: &NewToken) -> Result<MadeToken, ClientError> {
        self.transport.call_once(Method::POST, "/v1/tokens", Content::json(new)?).await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        self.transport.call(Method::DELETE, &format!("/v1/tokens/{}", part(id)), Content::Nothing).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.transport.call(Method::GET, path, Content::Nothing).await
    }
}

/// A key that nobody else has.
pub(crate) fn random_key() -> String {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).expect("the system's source of randomness answers");
    format!("{:032x}", u128::from_le_bytes(bits))
}
