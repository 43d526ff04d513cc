-- a LEFT join with an input without rows
-- order: final
SELECT l.k, l.n, r.n AS m FROM late_ones AS l LEFT JOIN nothing AS r ON l.k = r.k;
