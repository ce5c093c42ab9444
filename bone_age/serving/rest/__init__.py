"""The REST API: one process, one desk, one model at a time that follows the champion."""
