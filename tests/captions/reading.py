"""What a reader gives, for the tests of it."""

from regroup.captions.reader import CaptionReader

CAPTIONS = sum(n * 7 % 5 for n in range(1, 26))


def rows(reader: CaptionReader, epoch: int, start: int = 0) -> list[list[int]]:
    return [batch.rows.tolist() for batch in reader.epoch(epoch, start)]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]
