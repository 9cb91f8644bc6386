/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a model the way loaders in C++ do: its size, the length of the header, the header, then
 * tensors by seeking and reading; some text by line and by character. Prints what it has found.
 */
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

/* A sum that depends on every byte and its place. */
static std::uint64_t sum_of(const std::vector<char> &bytes)
{
	std::uint64_t sum = 1;

	for (char byte : bytes)
		sum = sum * 1099511628211u + static_cast<unsigned char>(byte);
	return sum;
}

/* Reads so many bytes at an offset and prints their sum and where the stream is then. */
static void read_at(std::ifstream &file, std::streamoff offset, std::size_t length)
{
	std::vector<char> bytes(length);

	file.seekg(offset);
	file.read(bytes.data(), static_cast<std::streamsize>(length));
	bytes.resize(static_cast<std::size_t>(file.gcount()));
	std::printf("%zu at %ld: %zd %016lx eof %d fail %d", length, static_cast<long>(offset),
		    bytes.size(), static_cast<unsigned long>(sum_of(bytes)), file.eof(),
		    file.fail());
	file.clear();
	std::printf(" at %ld\n", static_cast<long>(file.tellg()));
}

int main(int argc, char **argv)
{
	std::ifstream file(argc > 1 ? argv[1] : "", std::ios::binary);
	std::uint64_t length = 0;
	std::string line;
	std::streamoff size;

	if (!file)
		return 1;
	file.seekg(0, std::ios::end);
	size = file.tellg();
	file.seekg(0);
	file.read(reinterpret_cast<char *>(&length), 8);
	std::printf("size %ld, length %lx, next %d\n", static_cast<long>(size),
		    static_cast<unsigned long>(length), file.peek());
	read_at(file, 8, 30000);
	for (std::streamoff i = 0; i < 40; i++)
		read_at(file, i * 7919 * 7919 % size, static_cast<std::size_t>(i * i * 1500));
	read_at(file, 0, static_cast<std::size_t>(size));
	read_at(file, size - 5, 100);
	file.seekg(1000);
	std::getline(file, line);
	std::printf("line of %zu, then %d", line.size(), file.get());
	file.unget();
	std::printf(" and %d again\n", file.get());
	return 0;
}
