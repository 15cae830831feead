"""Timers are listed and stopped: by the agent, and by anybody through the proxy."""

import threading

from callboard import Agent, Node, every

node = Node("timer-stop")
rung = threading.Event()


class Alarm(Agent):
    @every(30)
    def look(self) -> None:
        print("never in this example")


alarm = Alarm("alarm")
node.add(alarm)

with node:
    alarm.after(0.2, rung.set, name="soon")
    unwanted = alarm.after(0.1, lambda: print("never said"))
    alarm.after(0.1, lambda: print("never said either"), name="unwanted")
    print("stopped:", alarm.stop_timer(unwanted), alarm.stop_timer("unwanted"), alarm.stop_timer("no such"))
    rung.wait(20)
    proxy = node.proxy("alarm")
    proxy.wait_ready()
    print("left:", [timer["name"] for timer in proxy.timers()])
    print("left:", [timer["name"] for timer in proxy.timers(stop="look")])
