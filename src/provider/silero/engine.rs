//! One onnxruntime session with Silero's model, and the tensors that all its runs share.

use ort::environment::Environment;
use ort::session::{IoBinding, Session};
use ort::value::{Tensor, TensorElementType};

use crate::provider::onnx::model::{self, Interface};

/// New samples of a run: 32 ms at 16 kHz.
pub(super) const FRAME: usize = 512;

/// Samples before them that the model wants to hear again: 4 ms.
pub(super) const CONTEXT: usize = 64;

/// Samples of a run.
pub(super) const INPUT: usize = CONTEXT + FRAME;

/// Numbers of the model's state: 2 × 1 × 128.
pub(super) const STATE: usize = 256;

const SILERO: Interface = Interface {
    models: "Silero VAD 5 and 6",
    inputs: &[
        ("input", TensorElementType::Float32),
        ("state", TensorElementType::Float32),
        ("sr", TensorElementType::Int64),
    ],
    outputs: &[
        ("output", TensorElementType::Float32),
        ("stateN", TensorElementType::Float32),
    ],
};

/// The model, loaded. Its tensors are made once and bound once: on the CPU, onnxruntime binds memory, not contents, which
/// [`Engine::new`] checks.
pub(super) struct Engine {
    session: Session,
    binding: IoBinding,
    input: Tensor<f32>,
    state: Tensor<f32>,
    probability: Tensor<f32>,
    next_state: Tensor<f32>,
}

impl Engine {
    /// Loads the model and tries it out.
    pub(super) fn new(environment: &Environment, file: &[u8]) -> Result<Self, String> {
        let session = model::load(environment, file)?;
        SILERO.check(&session)?;
        let mut engine = bind(session).map_err(|error| error.to_string())?;
        engine.try_out()?;
        Ok(engine)
    }

    /// How much `input` looks like speech, 0 to 1; moves `state` on.
    pub(super) fn run(&mut self, input: &[f32; INPUT], state: &mut [f32; STATE]) -> Result<f32, String> {
        self.input.extract_tensor_mut().1.copy_from_slice(input);
        self.state.extract_tensor_mut().1.copy_from_slice(state);
        drop(
            self.session
                .run_binding(&self.binding)
                .map_err(|error| error.to_string())?,
        );
        state.copy_from_slice(self.next_state.extract_tensor().1);
        let probability = self.probability.extract_tensor().1[0];
        if probability.is_finite() {
            Ok(probability)
        } else {
            Err("its answer isn't a number".to_owned())
        }
    }

    /// Runs the model on silence, on noise, and on silence again. Answers must be probabilities, and must depend on what is
    /// heard and on nothing else.
    fn try_out(&mut self) -> Result<(), String> {
        let silence = [0.0; INPUT];
        // Any noise does: a linear congruential generator's.
        let mut seed = 1_u32;
        let noise = std::array::from_fn(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((seed >> 16) as u16) / 65_536.0 - 0.5
        });
        let mut answer = |input: &[f32; INPUT]| -> Result<(f32, [f32; STATE]), String> {
            let mut state = [0.0; STATE];
            Ok((self.run(input, &mut state)?, state))
        };
        let (first, other, again) = (answer(&silence)?, answer(&noise)?, answer(&silence)?);
        if !(0.0..=1.0).contains(&first.0) || !(0.0..=1.0).contains(&other.0) {
            return Err(format!("its answers {} and {} aren't probabilities", first.0, other.0));
        }
        if first != again || first == other {
            return Err("its answers don't follow what it is given".to_owned());
        }
        Ok(())
    }
}

fn bind(session: Session) -> ort::Result<Engine> {
    let allocator = session.allocator();
    let input = Tensor::<f32>::new(allocator, [1_usize, INPUT])?;
    let state = Tensor::<f32>::new(allocator, [2_usize, 1, STATE / 2])?;
    let rate = Tensor::<i64>::from_array((Vec::<i64>::new(), vec![16_000_i64]))?;
    let mut probability = Tensor::<f32>::new(allocator, [1_usize, 1])?;
    let mut next_state = Tensor::<f32>::new(allocator, [2_usize, 1, STATE / 2])?;
    let mut binding = session.create_binding()?;
    binding.bind_input("input", &input)?;
    binding.bind_input("state", &state)?;
    binding.bind_input("sr", &rate)?;
    binding.bind_output("output", &mut probability)?;
    binding.bind_output("stateN", &mut next_state)?;
    Ok(Engine {
        session,
        binding,
        input,
        state,
        probability,
        next_state,
    })
}
