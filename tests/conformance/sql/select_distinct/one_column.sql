-- every value once
SELECT DISTINCT device FROM readings_plain;
