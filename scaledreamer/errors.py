"""The errors that a user can meet: each says the value that was met and the way out."""


class ScaleDreamerError(Exception):
    """Base of everything this package raises on purpose."""


class PromptError(ScaleDreamerError, ValueError):
    """A prompt that is empty, too long, or not text."""


class ModelFileError(ScaleDreamerError):
    """A model file that is missing, damaged, not ours, or of another version."""


class ConfigError(ScaleDreamerError, ValueError):
    """A configuration that does not fit its type."""


class EmptySurfaceError(ScaleDreamerError):
    """A field without a zero level inside its box, so there is no surface to extract."""


class ExportError(ScaleDreamerError, ValueError):
    """A mesh that cannot be written as asked."""


class TrainingError(ScaleDreamerError):
    """A training run that cannot go on; the last good checkpoint is intact."""


class Interrupted(ScaleDreamerError):
    """A training run that was asked to end: it has saved and can be resumed."""
