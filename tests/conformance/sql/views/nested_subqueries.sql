-- subqueries in FROM, each renaming
SELECT x AS y, k FROM (SELECT z + 1 AS x, k FROM (SELECT n * 2 AS z, device AS k FROM readings) WHERE z > 20) WHERE x < 50;
