"""Who may do what: topics and filters, and the roles that may, as the client `pi-one`."""

ROLES = ("viewer", "operator", "node", "board", "admin")
ME, OTHER = "pi-one", "pi-two"

# topic, and who may publish to it: v(iewer) o(perator) n(ode) b(oard) a(dmin), as the client `pi-one`
PUBLISH = {
    f"callboard/{ME}/status": "nba",
    f"callboard/{ME}/announce/sensor/x": "nba",
    f"callboard/{ME}/state/sensor/x": "nba",
    f"callboard/{ME}/event/alarm": "nba",
    f"callboard/{ME}/reply": "vonba",
    f"callboard/{ME}/command/control/x": "onba",
    f"callboard/{OTHER}/status": "ba",
    f"callboard/{OTHER}/announce/sensor/x": "ba",
    f"callboard/{OTHER}/state/sensor/x": "ba",
    f"callboard/{OTHER}/series/sensor/x": "ba",
    f"callboard/{OTHER}/event/alarm": "ba",
    f"callboard/{OTHER}/reply": "nba",
    f"callboard/{OTHER}/command/control/x": "oba",
    f"callboard/{OTHER}/command/action/ping": "onba",
    f"callboard/{OTHER}/command/action/lane": "onba",
    "callboard/board/command/worker/submit": "oba",
    "callboard/board/command/worker/attempt": "onba",
    "callboard": "ba",
    "elsewhere/x": "a",
}
SUBSCRIBE = {
    f"callboard/{ME}/command/#": "vonba",
    f"callboard/{ME}/reply": "vonba",
    "callboard/+/announce/#": "vonba",
    "callboard/+/status": "vonba",
    "callboard/#": "voba",
    f"callboard/{OTHER}/state/#": "voba",
    f"callboard/{OTHER}/command/#": "voba",
    f"callboard/{OTHER}/reply": "voba",
    "callboard/+/state/#": "voba",
    "$share/g/callboard/+/state/#": "voba",
    "$share/g/callboard/+/status": "vonba",
    "$SYS/#": "voba",
    "#": "a",
    "+/+/status": "a",
    "elsewhere/#": "a",
    "$share/g/#": "a",
}
