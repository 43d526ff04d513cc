-- Streams. A table without a connector is a stream in this project's log (.qanat/log.db). Devices and programs feed it
--   over MQTT:  topic readings, or readings/anything
--   over HTTP:  POST /streams/readings, one JSON object, a JSON array, or one object a line
-- A reading without ts gets the time of its arrival. What does not fit goes to the stream dead_letters, never nowhere.

CREATE TABLE readings (
  sensor      STRING NOT NULL,
  ts          TIMESTAMP_LTZ(3),
  temperature DOUBLE,
  humidity    DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND   -- rows may come up to 2 seconds out of order
);

CREATE TABLE climate (
  sensor       STRING,
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  readings     BIGINT,
  coldest      DOUBLE,
  average      DOUBLE,
  warmest      DOUBLE
);
