-- Who sells in category 10 from Oregon, Idaho or California, and in which auctions.

CREATE TABLE results (name STRING, city STRING, state STRING, id BIGINT) WITH (${SINK});

INSERT INTO results
SELECT p.name, p.city, p.state, a.id
FROM auction AS a JOIN person AS p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA');
