//! From the bytes of one message to the message, and back.
//!
//! Protobuf lets a few bytes stand for much memory: an empty tensor takes two on the wire. So an infer request's bytes
//! are looked through before they are decoded, and what it would take counts as a body's bytes do.

use std::marker::PhantomData;
use std::mem::size_of;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, skip_field};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::body::Counted;
use super::messages::InferTensor;

/// Memory of an element of `bytes_contents`, and of a raw content.
const BYTES_COST: usize = size_of::<Bytes>();
/// Memory of a tensor, and more than that of a parameter or a requested output.
const TENSOR_COST: usize = size_of::<InferTensor>();

/// Messages of one method. `Q` comes in and `R` goes out.
pub struct MessageCodec<Q, R> {
    counted: Arc<Counted>,
    /// What decoding takes beside the bytes themselves.
    cost: fn(Bytes) -> Result<usize, prost::DecodeError>,
    messages: PhantomData<(Q, R)>,
}

pub struct MessageDecoder<Q> {
    counted: Arc<Counted>,
    cost: fn(Bytes) -> Result<usize, prost::DecodeError>,
    messages: PhantomData<Q>,
}

pub struct MessageEncoder<R>(PhantomData<R>);

impl<Q, R> MessageCodec<Q, R> {
    pub fn new(counted: Arc<Counted>, cost: fn(Bytes) -> Result<usize, prost::DecodeError>) -> MessageCodec<Q, R> {
        MessageCodec { counted, cost, messages: PhantomData }
    }
}

impl<Q, R> Codec for MessageCodec<Q, R>
where
    Q: Message + Default + Send + 'static,
    R: Message + Send + 'static,
{
    type Encode = R;
    type Decode = Q;
    type Encoder = MessageEncoder<R>;
    type Decoder = MessageDecoder<Q>;

    fn encoder(&mut self) -> MessageEncoder<R> {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> MessageDecoder<Q> {
        MessageDecoder { counted: Arc::clone(&self.counted), cost: self.cost, messages: PhantomData }
    }
}

impl<Q: Message + Default> Decoder for MessageDecoder<Q> {
    type Item = Q;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Q>, Status> {
        let wrong = |error| Status::invalid_argument(format!("failed to read the message: {error}"));
        // Without a copy: tensors stay where they came.
        let bytes = from.copy_to_bytes(from.remaining());
        self.counted.add((self.cost)(bytes.clone()).map_err(wrong)?)?;
        Q::decode(bytes).map(Some).map_err(wrong)
    }
}

impl<R: Message> Encoder for MessageEncoder<R> {
    type Item = R;
    type Error = Status;

    fn encode(&mut self, message: R, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(format!("failed to write the answer: {error}")))
    }
}

/// The cost of messages that have a few texts.
pub fn small(_bytes: Bytes) -> Result<usize, prost::DecodeError> {
    Ok(0)
}

/// The cost of a `ModelInferRequest`.
pub fn of_infer(bytes: Bytes) -> Result<usize, prost::DecodeError> {
    sum_fields(bytes, |field, content| match field {
        5 => Ok(TENSOR_COST + sum_fields(content, of_tensor_field)?),
        4 | 6 => Ok(TENSOR_COST),
        7 => Ok(BYTES_COST),
        _ => Ok(0),
    })
}

fn of_tensor_field(field: u32, content: Bytes) -> Result<usize, prost::DecodeError> {
    match field {
        // Packed sizes of a shape, which take a byte at the least.
        3 => Ok(content.len() * size_of::<i64>()),
        5 => sum_fields(content, |field, content| match field {
            8 => Ok(BYTES_COST),
            // Packed integers take a byte at the least; floats take what they are.
            1..=5 => Ok(content.len() * size_of::<i64>()),
            _ => Ok(0),
        }),
        _ => Ok(0),
    }
}

/// The sum over the fields that have a length; the others are numbers, and counted as what such a one takes.
fn sum_fields(
    mut bytes: Bytes,
    cost: impl Fn(u32, Bytes) -> Result<usize, prost::DecodeError>,
) -> Result<usize, prost::DecodeError> {
    let mut sum = 0usize;
    while bytes.has_remaining() {
        let (field, wire) = decode_key(&mut bytes)?;
        let one = if wire == WireType::LengthDelimited {
            let len = decode_varint(&mut bytes)?;
            // What is cut off is an error when the message is decoded.
            let len = usize::try_from(len).map_or(bytes.len(), |len| len.min(bytes.len()));
            cost(field, bytes.split_to(len))?
        } else {
            skip_field(wire, field, &mut bytes, prost::encoding::DecodeContext::default())?;
            size_of::<i64>()
        };
        sum = sum.saturating_add(one);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::super::messages::{InferTensorContents, ModelInferRequest};
    use super::*;

    fn cost(request: &ModelInferRequest) -> usize {
        of_infer(request.encode_to_vec().into()).unwrap()
    }

    #[test]
    fn what_takes_memory_costs_it_however_few_its_bytes() {
        let empty = ModelInferRequest { inputs: vec![InferTensor::default(); 1_000], ..Default::default() };
        assert!(empty.encoded_len() < 10_000);
        assert_eq!(cost(&empty), 1_000 * TENSOR_COST);
        let bytes_contents = vec![Bytes::new(); 1_000];
        let contents = InferTensorContents { bytes_contents, ..Default::default() };
        let tensor = InferTensor { contents: Some(contents), ..Default::default() };
        let texts = ModelInferRequest { inputs: vec![tensor], ..Default::default() };
        assert_eq!(cost(&texts), TENSOR_COST + 1_000 * BYTES_COST);
    }

    #[test]
    fn plain_tensors_cost_about_what_they_are() {
        let contents = InferTensorContents { fp64_contents: vec![0.5; 10_000], ..Default::default() };
        let tensor = InferTensor { contents: Some(contents), shape: vec![10_000, 1], ..Default::default() };
        let request = ModelInferRequest { inputs: vec![tensor], ..Default::default() };
        assert!(cost(&request) < 1_000, "{}", cost(&request));
    }
}
