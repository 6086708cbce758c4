"""The kinds of numbers in params.yaml, each with its bounds and the reason for them.

A bound lies beyond all that is of use, and before what overflows, never ends, or asks for more than any machine has. Whether a value within
it also fits the images, the network and the machine, `check` works out (ood.config.whole, ood.data.catalog).
"""

from typing import Annotated

from pydantic import Field

# Counted.
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # what every generator takes
Count = Annotated[int, Field(ge=1, le=10**6)]  # things that are made, one by one: more would take weeks
Limit = Annotated[int, Field(ge=1, le=10**9)]  # things that are there: more than any published set has
Batch = Annotated[int, Field(ge=1, le=2**17)]  # images that go through a network at once; the largest published batches hold 2**16
Epochs = Annotated[int, Field(ge=0, le=10**5)]  # files of kept epochs have three digits or more, and each epoch its line
Steps = Annotated[int, Field(ge=1, le=10**8)]  # of an optimiser, a year of them
Side = Annotated[int, Field(ge=4, le=4096)]  # pixels that a network sees along a side; published ones see 32 to 1024
Cores = Annotated[int, Field(ge=0, le=1024)]  # threads or processes of one machine

# Measured.
Rate = Annotated[float, Field(ge=1e-12, le=1e3)]  # of learning: below it single precision doesn't move, above it everything diverges
Weight = Annotated[float, Field(ge=0, le=1e3)]  # of one term of a loss beside another
Temperature = Annotated[float, Field(ge=1e-3, le=1e6)]  # that logits are divided by; exp overflows below, above nothing is left of them
Nats = Annotated[float, Field(ge=0, le=100)]  # a loss per image; guessing among a million classes is 14
Energy = Annotated[float, Field(ge=-1e4, le=1e4)]  # of logits, in nats
Share = Annotated[float, Field(gt=0, le=1)]  # of a whole, not nothing
Below = Annotated[float, Field(ge=0, lt=1)]  # a share of a whole, not all of it
Unit = Annotated[float, Field(ge=0, le=1)]  # from nothing to all
