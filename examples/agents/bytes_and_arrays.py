"""What travels: JSON, bytes and arrays as they are; what has no form on the wire is an error, never a pickle."""

from typing import Any

from callboard import Agent, CallboardError, Node, method


class Echo(Agent):
    @method
    def kind(self, value: Any) -> list[Any]:
        return [type(value).__name__, value]

    @method
    def strange(self) -> Any:
        return {"handle": object()}


node = Node("bytes-and-arrays")
node.add(Echo("echo"))

with node:
    echo = node.proxy("echo")
    echo.wait_ready()
    print(echo.kind(value={"a": [1, 2.5, None]}))
    print(echo.kind(value=b"\x00\xffraw"))
    try:
        import numpy as np
    except ImportError:
        print("numpy is not installed")
    else:
        kind, array = echo.kind(value=np.arange(6, dtype="<f4").reshape(2, 3))
        print(kind, array.dtype, array.shape)
    for wrong in (lambda: echo.kind(value={1, 2}), echo.strange):
        try:
            wrong()
        except CallboardError as error:
            print("refused:", error.message)
