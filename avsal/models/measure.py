"""The sizes of the networks: parameters and multiply-accumulates, as the tests count them.

The parameters agree with the paper's Table 6. Its multiply-accumulates were counted by fvcore on
the published code, those here by PyTorch's `FlopCounterMode`. They differ for three reasons:

- fvcore adds normalisations, 0.3 to 0.6 G at 224x224; here they are not counted;
- the readout convolves every scale at its own size and joins the time steps before the last
  upsampling, which gives the same map with 1.6 G less;
- MViTv2 computes its position bias inside the attention product, which is 3 to 5 % more operations
  and no matrix of biases.

Apart from the first two, the counts agree to 0.02 G for every encoder but MViTv2.
"""

from __future__ import annotations

from typing import NamedTuple

# Table 6: parameters with training heads in millions, multiply-accumulates in billions.
PAPER_TABLE_6: dict[str, tuple[int, int]] = {
    "s3d-224x224": (88, 122),
    "x3dl-224x224": (84, 121),
    "slowfast4x16-224x224": (114, 127),
    "morphmlps-224x224": (126, 172),
    "videoswins-224x224": (129, 188),
    "uniformerb-224x224": (129, 202),
    "mvitv2s-224x224": (114, 170),
}


class Measure(NamedTuple):
    """Size of a network.

    Attributes:
        parameters: number of parameters at inference.
        parameters_with_heads: the same with the four training heads, as in the paper.
        macs: multiply-accumulates of one window, which is 16 frames, or 4 in the default network;
            convolutions, products and attention, without normalisations, poolings and
            interpolations.
    """

    parameters: int
    parameters_with_heads: int
    macs: int


MEASURES: dict[str, Measure] = {
    "mvitv2s-224x384": Measure(90_590_532, 113_703_236, 320_310_521_344),
    "mvitv2s-224x224": Measure(90_590_532, 113_703_236, 172_525_049_344),
    "s3d-224x384": Measure(64_463_044, 87_575_748, 205_223_171_584),
    "s3d-224x224": Measure(64_463_044, 87_575_748, 120_224_436_224),
    "x3dl-224x224": Measure(60_518_412, 83_631_116, 118_580_302_816),
    "slowfast4x16-224x224": Measure(90_825_964, 113_938_668, 125_332_754_432),
    "morphmlps-224x224": Measure(103_106_086, 126_218_790, 169_670_620_032),
    "uniformerb-224x224": Measure(105_962_740, 129_075_444, 199_758_413_824),
    "videoswins-224x224": Measure(105_869_370, 128_982_074, 186_366_840_832),
    "base-s3d-224x224": Measure(11_045_313, 11_045_313, 41_193_392_128),
    "v1-s3d-224x224": Measure(32_293_249, 55_405_953, 44_754_990_592),
    "v2-s3d-224x224": Measure(15_669_156, 15_669_156, 48_065_522_176),
    "v3-s3d-224x224": Measure(36_917_092, 60_029_796, 51_627_120_640),
    "v4-s3d-224x224": Measure(36_917_092, 60_029_796, 51_627_120_640),
    "v5-s3d-224x224": Measure(64_463_044, 87_575_748, 120_224_436_224),
    "v6-s3d-224x224": Measure(64_463_044, 87_575_748, 120_224_436_224),
    "v7-s3d-224x224": Measure(63_228_578, 86_341_282, 122_159_900_160),
    "bilinear-channel-s3d-224x224": Measure(35_984_996, 59_097_700, 49_287_223_296),
    "bilinear-space-s3d-224x224": Measure(27_503_160, 50_615_864, 49_296_932_864),
    "avim-s3d-224x224": Measure(27_990_116, 51_102_820, 49_336_776_704),
    "avim-cpc-s3d-224x224": Measure(28_514_404, 51_627_108, 49_651_349_504),
    "small-224x384": Measure(5_045_692, 26_585_532, 3_007_533_056),
}
