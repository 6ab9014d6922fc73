"""The frame of a drawing: a rectangle in an SVG, two axes, and where a value lies in it."""

from dataclasses import dataclass

from sottovoce.reporting.axis import Axis


@dataclass(frozen=True)
class Frame:
    """Pixels from the left and the top of the drawing; `across` and `up` run along the lower and the left edge."""

    left: int
    right: int
    top: int
    bottom: int
    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return self.left + (self.right - self.left) * self.across.place(value)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return self.bottom - (self.bottom - self.top) * self.up.place(value)

    def grid(self) -> list[str]:
        """Lines and labels of the ticks, and the two edges."""
        parts = []
        for tick in self.across.ticks():
            x = self.x(tick)
            parts.append(f'<path class="grid" d="M{x:.1f} {self.top}V{self.bottom}"/>')
            parts.append(f'<text x="{x:.1f}" y="{self.bottom + 22}" text-anchor="middle">{tick:.6g}</text>')
        for tick in self.up.ticks():
            y = self.y(tick)
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{self.right}"/>')
            parts.append(f'<text x="{self.left - 9}" y="{y:.1f}" dy=".35em" text-anchor="end">{tick:.6g}</text>')
        return [*parts, f'<path class="frame" d="M{self.left} {self.top}V{self.bottom}H{self.right}"/>']
