"""A CUDA stream of its own for one network, so that a GPU runs it beside another."""
from typing import Callable, Dict

import torch
from torch import Tensor


class SideStream:
    """Runs something on a CUDA stream of its own."""

    def __init__(self) -> None:
        self._streams: Dict[torch.device, torch.cuda.Stream] = {}

    def start(self, run: Callable[[], Dict[str, Tensor]], inputs: Tensor) -> Callable[[], Dict[str, Tensor]]:
        """Begins to run; returns what gives the results: whatever the present stream does after that comes after them.

        Args:
            run: makes tensors by name from the inputs.
            inputs: made on the present stream of their GPU.
        """
        device = inputs.device
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        side = self._streams[device]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            results = run()
        done = side.record_event()
        inputs.record_stream(side)  # its memory is not given to others before the side has read it

        def wait() -> Dict[str, Tensor]:
            reading = torch.cuda.current_stream(device)
            reading.wait_event(done)
            for tensor in results.values():
                tensor.record_stream(reading)
            return results

        return wait
