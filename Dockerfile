# The official PostgreSQL image with lpusers in it.
#
#	docker build --build-arg POSTGRES=18 -t lpusers .
#	docker run -e POSTGRES_PASSWORD=... lpusers
#	docker run -e POSTGRES_PASSWORD=... lpusers -c shared_preload_libraries=lpusers -c lpusers.databases=postgres
#
# With the second, workers start with the server. For the images on Debian, not those on Alpine.
# CREATE EXTENSION lpusers is for you to run, in each database that shall have it.
ARG POSTGRES=18
FROM postgres:${POSTGRES} AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
	gcc libc6-dev libcurl4-openssl-dev libjson-c-dev make pkgconf postgresql-server-dev-$PG_MAJOR
COPY . /lpusers
RUN make -C /lpusers with_llvm=no clean && make -C /lpusers with_llvm=no DESTDIR=/built install

FROM postgres:${POSTGRES}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libcurl4 libjson-c5 \
	&& rm -rf /var/lib/apt/lists/*
COPY --from=build /built /
