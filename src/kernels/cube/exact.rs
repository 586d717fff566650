//! Matrix products in f32 throughout. Burn's own pick the fastest kernel, which on tensor cores rounds its factors to TF32.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeTuneId, cubecl};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::tune::{LocalTuner, Tunable, TunableSet, local_tuner};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::matmul::multi_level::routines::TileSizeSelection;
use cubek::matmul::multi_level::routines::batch::double_unit::DoubleUnitSelectionArgs;
use cubek::matmul::multi_level::routines::batch::simple_unit::SimpleUnitSelectionArgs;
use cubek::matmul::routine::BlueprintStrategy;
use cubek::matmul::tune_key::MatmulAutotuneKey;
use cubek::std::InputBinding;

use super::empty;

const F32: ElemType = ElemType::Float(FloatKind::F32);

/// Factors and product.
type Operands = (CubeTensor, CubeTensor, CubeTensor);

/// The product of the last two dimensions, in memory of its own.
pub(super) fn multiply(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    let mut shape = lhs.shape().to_vec();
    let columns = shape.len() - 1;
    shape[columns] = rhs.shape()[columns];
    let product = empty(&lhs, &shape);
    if shape.contains(&0) {
        return product;
    }
    let operands = (lhs, rhs, product.clone());
    if cfg!(any(feature = "cuda", feature = "wgpu")) {
        fastest(operands);
    } else {
        launch(&Strategy::SimpleUnit(Default::default()), operands.clone())
            .or_else(|_| launch(&Strategy::Naive, operands))
            .expect("the last kernel takes whatever there is");
    }
    product
}

/// By the kernel that was measured to be the fastest for such sizes.
fn fastest((lhs, rhs, product): Operands) {
    static TUNER: LocalTuner<MatmulAutotuneKey, CubeTuneId> = local_tuner!();
    let (client, id) = (lhs.client.clone(), CubeTuneId::new(&lhs.client, &lhs.device));
    let candidates = TUNER.init(&id, || {
        let copies = |_: &MatmulAutotuneKey, (lhs, rhs, product): &Operands| (lhs.clone(), rhs.clone(), product.copy());
        let mut set = TunableSet::new(key, copies);
        // The first is what is left where no other will do.
        for (name, strategy) in candidates() {
            set = set.with(Tunable::new(name, move |operands| launch(&strategy, operands)));
        }
        set
    });
    TUNER.execute(&id, &client, candidates, (lhs, rhs, product));
}

fn candidates() -> [(&'static str, Strategy); 5] {
    use TileSizeSelection::{MaxTileSize, MinTileSize};

    let simple = |tile_size| Strategy::SimpleUnit(BlueprintStrategy::Inferred(SimpleUnitSelectionArgs { tile_size }));
    let double = |tile_size| Strategy::DoubleUnit(BlueprintStrategy::Inferred(DoubleUnitSelectionArgs { tile_size }));
    [
        ("naive", Strategy::Naive),
        ("simple, large tiles", simple(MaxTileSize)),
        ("simple, small tiles", simple(MinTileSize)),
        ("double, large tiles", double(MaxTileSize)),
        ("double, small tiles", double(MinTileSize)),
    ]
}

fn key((lhs, rhs, product): &Operands) -> MatmulAutotuneKey {
    let ([left, right], [rows, columns]) = ([&lhs.meta, &rhs.meta], [lhs.try_scheme(), rhs.try_scheme()]);
    MatmulAutotuneKey::generate(
        &product.client,
        left.shape(),
        right.shape(),
        left.strides(),
        right.strides(),
        left.tiling,
        right.tiling,
        F32,
        F32,
        F32,
        rows,
        columns,
    )
}

fn launch(strategy: &Strategy, (lhs, rhs, product): Operands) -> Result<(), String> {
    let client = product.client.clone();
    let mut elements = MatmulElems::from_globals(&MatmulGlobalElems { lhs: F32, rhs: F32, out: F32 });
    let [lhs, rhs] = [lhs, rhs].map(|factor| InputBinding::new(factor.binding(), F32));
    launch_ref(&strategy.clone().into(), &client, lhs, rhs, product.binding(), &mut elements)
        .map_err(|error| format!("{error:?}"))
}
