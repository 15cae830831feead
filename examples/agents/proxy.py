"""A proxy: an agent's methods and attributes by its name, wherever on the site it runs."""

from callboard import Agent, CallboardError, Node, attribute, method


class Camera(Agent):
    exposure: float = attribute(0.1, settable=True, description="seconds")
    pictures: int = attribute(0)

    @method
    def take_picture(self, exposure: float | None = None) -> str:
        """Take a picture."""
        self.pictures += 1
        return f"picture {self.pictures}, {exposure or self.exposure} s"


node = Node("proxy")
node.add(Camera("camera-1"))

with node:
    camera = node.proxy("camera-1")
    camera.wait_ready()
    print(camera.take_picture())
    camera.exposure = 0.25
    print(camera.take_picture())
    print(camera.take_picture(exposure=2))
    print("taken:", camera.pictures)
    print(camera.take_picture.schema.description)
    try:
        camera.take_picture(exposure="long")
    except CallboardError as error:
        print("refused before it was sent:", error.message)
