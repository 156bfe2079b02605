"""What grouping and alignment do: figures and dissections."""
