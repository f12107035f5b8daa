"""Align the reads of several samples to a reference genome and call their variants.

The tasks that work on one sample are `async def`; those that spread the work are plain functions that return
lazy calls. Passing a lazy call on to another task is what records where a value comes from.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from aredun import File, task

redun_namespace = "variants"

MAX_MISMATCHES = 4
MIN_DEPTH = 4
MIN_FRACTION = 0.7


@task()
async def align_reads(fastq: File, ref_genome: File) -> File:
    """Align the reads of one sample; writes one line a read: name, position, sequence."""
    reads = await asyncio.to_thread(fastq.read)
    reference = await asyncio.to_thread(ref_genome.read)
    alignments = await asyncio.to_thread(align, reads, reference)
    bam = File(fastq.path.replace("fastq", "bam"))
    await asyncio.to_thread(bam.write, alignments)
    return bam


@task()
async def call_variants(bam: File, ref_genome: File) -> File:
    """Call the variants of one sample; writes VCF."""
    alignments = await asyncio.to_thread(bam.read)
    reference = await asyncio.to_thread(ref_genome.read)
    vcf = File(bam.path.replace("bam", "vcf"))
    await asyncio.to_thread(vcf.write, pile_up(alignments, reference))
    return vcf


@task()
def align_reads_all(fastqs: list[File], ref_genome: File) -> list[File]:
    """Align all samples."""
    return [align_reads(fastq, ref_genome) for fastq in fastqs]


@task()
def call_variants_all(bams: list[File], ref_genome: File) -> list[File]:
    """Call the variants of all samples."""
    return [call_variants(bam, ref_genome) for bam in bams]


@task()
def main(fastqs: list[File], ref_genome: File) -> list[File]:
    """Go from reads to variants."""
    bams = align_reads_all(fastqs, ref_genome)
    vcfs: list[File] = call_variants_all(bams, ref_genome)
    return vcfs


def align(reads: str, reference: str) -> str:
    """Place each read where it differs least from the genome."""
    _, genome = parse_fasta(reference)
    lines = []
    for name, sequence in parse_fastq(reads):
        mismatches, position = min(
            (count_mismatches(sequence, genome[start : start + len(sequence)]), start)
            for start in range(len(genome) - len(sequence) + 1)
        )
        if mismatches <= MAX_MISMATCHES:
            lines.append(f"{name}\t{position}\t{sequence}\n")
    return "".join(lines)


def pile_up(alignments: str, reference: str) -> str:
    """Find the positions where most reads agree on a base that is not the genome's."""
    chromosome, genome = parse_fasta(reference)
    columns: list[Counter[str]] = [Counter() for _ in genome]
    for line in alignments.splitlines():
        _, position, sequence = line.split("\t")
        for offset, base in enumerate(sequence):
            columns[int(position) + offset][base] += 1
    lines = ["##fileformat=VCFv4.3\n", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"]
    for number, (base, column) in enumerate(zip(genome, columns, strict=True), start=1):
        depth = column.total()
        if depth >= MIN_DEPTH:
            (seen, count), *_ = column.most_common(1)
            if seen != base and count >= MIN_FRACTION * depth:
                lines.append(f"{chromosome}\t{number}\t.\t{base}\t{seen}\t.\tPASS\tDP={depth}\n")
    return "".join(lines)


def count_mismatches(left: str, right: str) -> int:
    """Count the positions where two sequences differ."""
    return sum(a != b for a, b in zip(left, right, strict=True))


def parse_fastq(text: str) -> list[tuple[str, str]]:
    """Return name and sequence of each read."""
    lines = text.splitlines()
    return [(name[1:], sequence) for name, sequence in zip(lines[::4], lines[1::4], strict=True)]


def parse_fasta(text: str) -> tuple[str, str]:
    """Return name and sequence of the only record."""
    header, *lines = text.splitlines()
    return header[1:].split()[0], "".join(lines)
