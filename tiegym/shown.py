"""How an environment shows itself; what is drawn is in `tiegym.pictures.episode_picture`."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

from tiegym.config import TieConfig
from tiegym.episode import Episode


class Shown(gymnasium.Env[Any, Any]):
    """What of a `TieEnv` shows it."""

    config: TieConfig
    _episode: Episode | None
    _printed: tuple[int, str] | None = None

    def render(self) -> Any:
        """The tying as it stands: text, or an image (H, W, 3) of uint8 for "rgb_array".

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        from tiegym.pictures import episode_picture

        episode, config = self._known_episode(), self.config
        ties, total = np.array(episode.ties), config.max_iters
        if self.render_mode == "rgb_array":
            return episode_picture.draw_ties(
                ties, episode.history, total, config.n_layer, episode.frozen
            )
        if self.render_mode is None:
            gymnasium.logger.warn("render() draws nothing: give render_mode to gymnasium.make()")
            return None
        perplexity, n_frozen = math.exp(episode.loss), sum(episode.frozen)
        text = episode_picture.ties_text(
            ties, perplexity, episode.iteration, total, config.n_layer, n_frozen
        )
        if self.render_mode == "human":
            if (line := (episode.seed, str(text))) != self._printed:  # `step` does it by itself
                episode_picture.print_text(text)
                self._printed = line
            return None
        return episode_picture.terminal_text(text)

    def _known_episode(self) -> Episode:
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call env.reset() first: there is no episode yet")
        return self._episode
