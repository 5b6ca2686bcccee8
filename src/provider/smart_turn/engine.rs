//! One onnxruntime session with smart-turn's model, and what its runs share.

use ort::environment::Environment;
use ort::session::{IoBinding, Session};
use ort::value::{Tensor, TensorElementType, ValueType};

use super::features::{FRAMES, LogMel, MELS, WINDOW};
use crate::provider::onnx::model::{self, Interface};

/// The model's only input.
const INPUT: &str = "input_features";

/// The model's output. It is called so, but it is a probability already.
const OUTPUT: &str = "logits";

const SMART_TURN: Interface = Interface {
    models: "smart-turn v3's models",
    inputs: &[(INPUT, TensorElementType::Float32)],
    outputs: &[(OUTPUT, TensorElementType::Float32)],
};

/// The model, loaded. Its tensors are made once and bound once, as Silero's are.
pub(super) struct Engine {
    features: LogMel,
    session: Session,
    binding: IoBinding,
    input: Tensor<f32>,
    probability: Tensor<f32>,
}

impl Engine {
    /// Loads the model and tries it out.
    pub(super) fn new(environment: &Environment, file: &[u8]) -> Result<Self, String> {
        let session = model::load(environment, file)?;
        SMART_TURN.check(&session)?;
        check_shape(&session)?;
        let mut engine = bind(session).map_err(|error| error.to_string())?;
        engine.try_out()?;
        Ok(engine)
    }

    /// How likely the turn is complete whose last eight seconds these are, 0 to 1.
    pub(super) fn judge(&mut self, pcm: &[i16]) -> Result<f32, String> {
        self.prepare(pcm);
        self.infer()
    }

    /// Makes the spectrogram that the next inference is about.
    pub(super) fn prepare(&mut self, pcm: &[i16]) {
        self.features.compute(pcm, self.input.extract_tensor_mut().1);
    }

    /// Runs the model on the spectrogram.
    pub(super) fn infer(&mut self) -> Result<f32, String> {
        drop(
            self.session
                .run_binding(&self.binding)
                .map_err(|error| error.to_string())?,
        );
        let probability = self.probability.extract_tensor().1[0];
        // An export without the last step gives what lies far outside.
        if (0.0..=1.0).contains(&probability) {
            Ok(probability)
        } else {
            Err(format!("its answer {probability} is no probability"))
        }
    }

    /// Runs the model on silence and on noise: its answers must be probabilities, and depend on what is heard.
    fn try_out(&mut self) -> Result<(), String> {
        // Any noise does: a linear congruential generator's.
        let mut seed = 1_u32;
        let noise: Vec<i16> = (0..WINDOW / 2)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 16) as u16 as i16 / 4
            })
            .collect();
        let (silence, noise) = (self.judge(&[])?, self.judge(&noise)?);
        if silence.to_bits() == noise.to_bits() {
            return Err("its answers don't follow what it is given".to_owned());
        }
        Ok(())
    }
}

/// The model must take our spectrogram as it is.
fn check_shape(session: &Session) -> Result<(), String> {
    let shape = session.inputs().iter().find_map(|input| match input.dtype() {
        ValueType::Tensor { shape, .. } if input.name() == INPUT => Some(shape.to_vec()),
        _ => None,
    });
    // Whichever number isn't fixed is negative.
    let wanted = [1, MELS as i64, FRAMES as i64];
    let fits = shape.as_ref().is_some_and(|shape| {
        shape.len() == wanted.len()
            && shape
                .iter()
                .zip(wanted)
                .all(|(found, wanted)| *found < 0 || *found == wanted)
    });
    if fits {
        Ok(())
    } else {
        Err(format!(
            "smart-turn v3 takes one spectrogram of {MELS} bands and {FRAMES} frames; this model takes {:?}",
            shape.unwrap_or_default()
        ))
    }
}

fn bind(session: Session) -> ort::Result<Engine> {
    let allocator = session.allocator();
    let input = Tensor::<f32>::new(allocator, [1_usize, MELS, FRAMES])?;
    let mut probability = Tensor::<f32>::new(allocator, [1_usize, 1])?;
    let mut binding = session.create_binding()?;
    binding.bind_input(INPUT, &input)?;
    binding.bind_output(OUTPUT, &mut probability)?;
    Ok(Engine {
        features: LogMel::new(),
        session,
        binding,
        input,
        probability,
    })
}
