//! Our partitions as a table of DataFusion's: read lazily, one after the other, and only the columns asked for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};

use crate::blob::SharedBlob;
use crate::partition::{PartitionError, PartitionReader};
use crate::table::{self, TableSchema};

/// A table of partitions.
#[derive(Debug)]
pub struct Partitions {
    schema: SchemaRef,
    blobs: Vec<SharedBlob>,
}

impl Partitions {
    pub fn new(schema: &TableSchema, blobs: Vec<SharedBlob>) -> Partitions {
        Partitions { schema: schema.to_arrow(), blobs }
    }
}

#[async_trait]
impl TableProvider for Partitions {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => self.schema.clone(),
        };
        let stream = Arc::new(Stream { schema: schema.clone(), blobs: self.blobs.clone() });
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![stream], None, [], false, limit)?))
    }
}

/// The rows of all partitions, in their order.
#[derive(Debug)]
struct Stream {
    schema: SchemaRef,
    blobs: Vec<SharedBlob>,
}

impl PartitionStream for Stream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = Batches { schema: self.schema.clone(), blobs: self.blobs.clone().into_iter(), reader: None };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures_util::stream::iter(batches)))
    }
}

struct Batches {
    schema: SchemaRef,
    blobs: std::vec::IntoIter<SharedBlob>,
    reader: Option<PartitionReader>,
}

impl Batches {
    fn read(&mut self) -> Result<Option<RecordBatch>, PartitionError> {
        loop {
            if let Some(reader) = &mut self.reader {
                if let Some(batch) = reader.next() {
                    return Ok(Some(table::coerce(&batch?, &self.schema)?));
                }
                self.reader = None;
            }
            let Some(blob) = self.blobs.next() else { return Ok(None) };
            let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            self.reader = Some(PartitionReader::open(blob, Some(&columns))?);
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|error| DataFusionError::External(Box::new(error))).transpose()
    }
}
