"""A path that never leaves a box, is never too fast and never changes its speed too quickly.

A path is a row of targets, one a period. The next target is the one nearest to where the path shall
go among those from which it can still come to rest inside the box. Speeds are counted as the way of
one period, changes of speed as the change of that way.
"""

from __future__ import annotations

import math

Place = tuple[float, float, float]

# Rounding of a path that brakes at the very border.
_ROUNDING_M = 1e-9


class PathAllowance:
    """The way that a speed limit has allowed and that has not been used yet.

    Args:
        speed_m_s: The limit.
        longest_m: The most that an idle while can save up.
    """

    def __init__(self, speed_m_s: float, longest_m: float) -> None:
        self._speed_m_s = speed_m_s
        self._longest_m = longest_m
        self._left_m = longest_m
        self._seen_ns: int | None = None

    def at(self, t_ns: int) -> float:
        """Returns what may be used at `t_ns`, metres."""
        if self._seen_ns is not None:
            elapsed_s = max(t_ns - self._seen_ns, 0) * 1e-9
            self._left_m = min(self._left_m + self._speed_m_s * elapsed_s, self._longest_m)
        self._seen_ns = t_ns if self._seen_ns is None else max(t_ns, self._seen_ns)
        return self._left_m

    def spend(self, length_m: float) -> None:
        """Uses some of it; more than there is leaves none."""
        self._left_m = max(self._left_m - length_m, 0.0)


class PathLimiter:
    """The path of targets that an arm is sent.

    Args:
        max_speed_m_s: Greatest speed along the path, also over a time shorter than a period: what
            an idle while saves up is half a period's worth.
        max_acceleration_m_s2: Greatest change of speed from one period to the next.
        period_s: Time between two targets.
    """

    def __init__(
        self, *, max_speed_m_s: float, max_acceleration_m_s2: float, period_s: float
    ) -> None:
        self._period_s = period_s
        self.limit_speed(max_speed_m_s)
        self._change_m = max_acceleration_m_s2 * period_s**2
        self.slow_m = self._change_m / 2
        """A way that ends with a target this near is slow there."""
        self._low: Place = (0.0, 0.0, 0.0)
        self._high: Place = (0.0, 0.0, 0.0)
        self._way: Place = (0.0, 0.0, 0.0)
        self.place: Place = (0.0, 0.0, 0.0)
        """The last target of the path."""

    def limit_speed(self, max_speed_m_s: float) -> None:
        """Sets the greatest speed from now on; `start` has to follow."""
        self._longest_m = max_speed_m_s * self._period_s
        self._allowance = PathAllowance(max_speed_m_s, 1.5 * self._longest_m)

    def start(self, place: Place, low: Place, high: Place) -> None:
        """Begins a path at rest.

        Args:
            place: Where; cut to the box.
            low: Lowest corner of the box.
            high: Highest corner of the box.
        """
        self._low, self._high = low, high
        self.place = clipped(place, low, high)
        self._way = (0.0, 0.0, 0.0)

    def within(self, place: Place) -> Place:
        """Returns the nearest place of the box."""
        return clipped(place, self._low, self._high)

    def end_at(self, place: Place) -> None:
        """Ends the path at another place, cut to the box; the way there is as good as gone."""
        place = self.within(place)
        self._allowance.spend(math.dist(place, self.place))
        self.place = place
        self._way = (0.0, 0.0, 0.0)

    def rest(self) -> None:
        """Takes the path to be at rest where it is: a period passed without a step."""
        self._way = (0.0, 0.0, 0.0)

    def toward(self, goal: Place, t_ns: int) -> Place:
        """Returns the next target on the way to `goal`, and makes it the last one.

        Args:
            goal: Where to come to rest; inside the box.
            t_ns: Now.
        """
        allowed_m = min(self._longest_m, self._allowance.at(t_ns))
        gap = _minus(goal, self.place)
        distance_m = math.hypot(*gap)
        wished = _times(gap, min(1.0, self._fastest(distance_m) / max(distance_m, 1e-12)))
        change = _minus(wished, self._way)
        change_m = math.hypot(*change)
        if change_m > self._change_m:
            wished = _plus(self._way, _times(change, self._change_m / change_m))
        wished = _cut(wished, allowed_m)
        if not self._stops_inside(wished):
            way_m = math.hypot(*self._way)
            wished = _cut(self._way, min(allowed_m, max(way_m - self._change_m, 0.0)))
        self._allowance.spend(math.hypot(*wished))
        place = clipped(_plus(self.place, wished), self._low, self._high)
        if math.dist(place, goal) <= _ROUNDING_M:
            place = goal
        self._way, self.place = wished, place
        return place

    def _stops_inside(self, way: Place) -> bool:
        """Whether the path can still come to rest in the box after this step."""
        way_m = math.hypot(*way)
        if way_m == 0.0:
            return True
        stop = _plus(self.place, _times(way, 1.0 + self._braking_m(way_m) / way_m))
        return all(
            low - _ROUNDING_M <= x <= high + _ROUNDING_M
            for low, x, high in zip(self._low, stop, self._high, strict=True)
        )

    def _braking_m(self, way_m: float) -> float:
        """Returns the way to rest after a step of `way_m`: shorter by the change each time."""
        num_steps = math.floor(way_m / self._change_m)
        return num_steps * way_m - self._change_m * num_steps * (num_steps + 1) / 2

    def _fastest(self, distance_m: float) -> float:
        """Returns the longest step from which the path comes to rest at that distance."""
        if distance_m <= _ROUNDING_M:
            return distance_m
        num_steps = math.floor((math.sqrt(1 + 8 * distance_m / self._change_m) - 1) / 2)
        saved_m = self._change_m * num_steps * (num_steps + 1) / 2
        return min((distance_m + saved_m) / (num_steps + 1), self._longest_m)


def _plus(a: Place, b: Place) -> Place:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def _minus(a: Place, b: Place) -> Place:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _times(a: Place, factor: float) -> Place:
    return (a[0] * factor, a[1] * factor, a[2] * factor)


def _cut(way: Place, longest_m: float) -> Place:
    length_m = math.hypot(*way)
    return way if length_m <= longest_m else _times(way, longest_m / length_m)


def clipped(place: Place, low: Place, high: Place) -> Place:
    """Returns the place of a box that is nearest to `place`."""
    return (
        min(max(place[0], low[0]), high[0]),
        min(max(place[1], low[1]), high[1]),
        min(max(place[2], low[2]), high[2]),
    )
