-- IN with a subquery: rows that have a partner
-- order: final
SELECT n, device FROM readings_plain WHERE site IN (SELECT site FROM sites WHERE size > 5);
