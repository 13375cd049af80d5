"""Tone mapping: high dynamic range (PQ, HLG) to the colors of an ordinary picture.

The steps are those of FFmpeg's `zscale=t=linear:npl=203, zscale=p=bt709, tonemap=mobius:param=0.8:peak=4.926:desat=0,
zscale=t=iec61966-2-1`, which few builds of FFmpeg have: light of the display, relative to the 203 cd/m2 of a white
page (ITU-R BT.2408); primaries of BT.709; highlights of up to 1000 cd/m2 rolled off; sRGB.
"""

from functools import cache

import numpy as np

PQ, HLG = 16, 18  # FFmpeg's numbers of the transfer characteristics
_WHITE, _PEAK = 203.0, 1000.0  # cd/m2: of a page in the picture, of the brightest light that keeps its details
_KNEE = 0.8  # below this fraction of white, light is kept as it is
# Light of BT.709 primaries from that of others, by FFmpeg's number of these: BT.709, P3 with D65. Else BT.2020.
_TO_BT709 = {
    1: np.eye(3),
    12: np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09828]]),
}
_BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)


def is_hdr(transfer: int) -> bool:
    """Return whether FFmpeg's number of the transfer characteristics is that of PQ or HLG."""
    return transfer in (PQ, HLG)


def tone_map(image: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Map a picture of high dynamic range to sRGB.

    Args:
        image: RGB, uint16 `(height, width, 3)`, full range.
        transfer: `PQ` or `HLG`.
        primaries: FFmpeg's number of the color primaries; BT.2020 is assumed for unknown ones.

    Returns:
        uint8 `(height, width, 3)`.
    """
    light = _linear(transfer)[image]
    light @= _TO_BT709.get(primaries, _BT2020_TO_BT709).T.astype(np.float32)
    np.maximum(light, 0, out=light)
    brightest = light.max(axis=2)
    bright = brightest > _KNEE
    light[bright] *= (_rolled_off(brightest[bright]) / brightest[bright])[:, None]
    return _encoded()[np.rint(np.clip(light, 0, 1) * 65535).astype(np.uint16)]


def _rolled_off(light: np.ndarray) -> np.ndarray:
    """Return FFmpeg's "mobius" curve: the identity up to the knee, then smoothly to 1 at the peak."""
    peak, knee = _PEAK / _WHITE, _KNEE
    a = -knee * knee * (peak - 1) / (knee * knee - 2 * knee + peak)
    b = (knee * knee - 2 * knee * peak + peak) / (peak - 1)
    return (b * b + 2 * b * knee + knee * knee) / (b - a) * (light + a) / (light + b)


@cache
def _linear(transfer: int) -> np.ndarray:
    """Return the light of the display for each 16-bit value, relative to white."""
    signal = np.arange(65536) / 65535
    if transfer == PQ:
        root = signal ** (32 / 2523)
        light = (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
        return (light * 10000 / _WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    # BT.2100 raises the luminance to this power; zscale, as here, each color.
    return (scene**1.2 * _PEAK / _WHITE).astype(np.float32)


@cache
def _encoded() -> np.ndarray:
    """Return the sRGB value of each 65535th of white."""
    light = np.arange(65536) / 65535
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(signal * 255).astype(np.uint8)
