//! How a recurrent layer's pass over time is divided among the units of a cube (threads of a block).

use burn_cubecl::tensor::CubeTensor;

/// Weights that a unit holds in registers at most: with what else it needs, half of those that 512 units can have each.
const HELD: usize = 96;
/// Units of a cube at most.
const UNITS: usize = 512;
/// Cubes to have at least before several sequences share a weight that is read at every step, if there are as many sequences.
const READING_CUBES: usize = 64;
/// Sequences that share a weight once it is read, at most.
const READING_ROWS: usize = 4;
/// Bytes of shared memory that are asked for at most.
const SHARED: usize = 32 * 1024;
/// The most cells that a pass takes: its shared memory fits into the 16 KiB that every Vulkan device has.
pub(super) const MOST_CELLS: usize = 512;

/// The division of one pass. At each step a cube multiplies what its sequences bring, `[rows, inputs]`, with a matrix `[inputs, outputs *
/// cells]`. A unit computes the same column of each output from one slice of the inputs; the slices are summed after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub cells: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Sequences of a cube.
    pub rows: usize,
    pub slices: usize,
    pub units: usize,
    /// Whether a unit's weights stay in its registers for all steps; else they are read at each one, out of the cache at best.
    pub held: bool,
}

impl Plan {
    /// For a step from the states to all `gates`, on the device of `tensor`.
    pub fn forward(cells: usize, gates: usize, batch: usize, tensor: &CubeTensor) -> Self {
        Self { inputs: cells, outputs: gates, ..Self::new(cells, gates, batch, tensor) }
    }

    /// For a step from the gradients of all `gates` to that of the states.
    pub fn backward(cells: usize, gates: usize, batch: usize, tensor: &CubeTensor) -> Self {
        Self { inputs: gates * cells, outputs: 1, ..Self::new(cells, gates, batch, tensor) }
    }

    fn new(cells: usize, gates: usize, batch: usize, tensor: &CubeTensor) -> Self {
        let hardware = &tensor.client.properties().hardware;
        let most = hardware.max_units_per_cube as usize;
        let units = UNITS.min(most);
        let fits = |slices: &usize| cells.is_multiple_of(*slices) && cells * slices <= units;
        let base = Self { cells, inputs: 0, outputs: 0, rows: 1, slices: 1, units: cells, held: false };
        let holds = |slices: &usize| fits(slices) && gates * cells <= HELD * slices;
        if let Some(slices) = [1, 2, 4, 8, 16].into_iter().find(holds) {
            return Self { slices, units: cells * slices, held: true, ..base };
        }
        // Sequences whose blocks of `cells` values find room: of an LSTM's way forward, which needs the most.
        let floats = SHARED.min(hardware.max_shared_memory_size) / size_of::<f32>();
        let room = |slices: usize| floats / ((2 + 4 * slices) * cells);
        let slices = [4, 2].into_iter().find(|slices| fits(slices) && room(*slices) > 0).unwrap_or(1);
        let rows = batch.div_ceil(READING_CUBES).min(READING_ROWS).min(room(slices));
        assert!(rows > 0, "{cells} cells do not fit into {floats} numbers of shared memory");
        Self { rows, slices, units: (cells * slices).min(units), ..base }
    }

    /// Inputs of a slice.
    pub fn depth(&self) -> usize {
        self.inputs / self.slices
    }

    /// Columns that the units compute at once.
    pub fn width(&self) -> usize {
        self.units / self.slices
    }

    /// How often the units go on to further columns.
    pub fn passes(&self) -> usize {
        self.cells.div_ceil(self.width())
    }

    /// Weights in a unit's registers; an array has one at least.
    pub fn kept(&self) -> usize {
        if self.held { self.depth() * self.outputs } else { 1 }
    }
}
