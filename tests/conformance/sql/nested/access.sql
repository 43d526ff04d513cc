-- elements of arrays, maps and rows; beyond the end is NULL
SELECT id, tags[1] AS first_tag, tags[3] AS third_tag, attrs['x'] AS x, attrs['nope'] AS nope, bags.pos.lat AS lat, items[1].sku AS sku, CARDINALITY(tags) AS n_tags, CARDINALITY(attrs) AS n_attrs
FROM bags;
